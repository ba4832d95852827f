//! Two authorities, and certificates of the first for a server on loopback and for a client.

use std::process::Command;

use tempfile::TempDir;

use crate::servers::missing;

/// PEM files in a directory that goes with this.
pub(super) struct Certificates(TempDir);

impl Certificates {
    pub(super) fn make() -> Option<Self> {
        let openssl = missing(netns_harness::parts::installed("openssl", "openssl"))?;
        let this = Self(tempfile::tempdir().unwrap());
        let run = |arguments: &str| {
            let mut command = Command::new(&openssl);
            let done = command.args(arguments.split(' ')).current_dir(this.0.path()).output().unwrap();
            assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for ca in ["ca", "other-ca"] {
            run(&format!("req -x509 {key} -keyout {ca}.key -out {ca}.pem -days 2 -subj /CN={ca}"));
        }
        for name in ["server", "client"] {
            let names = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n";
            std::fs::write(this.0.path().join("extensions"), names).unwrap();
            run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
            run(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem -extfile \
                 extensions"
            ));
        }
        Some(this)
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Store options that trust `authority`, with a certificate of our own or without.
    pub(super) fn options(&self, authority: &str, own: Option<&str>) -> Vec<String> {
        let mut options = vec![format!("kv.cacertfile={}", self.path(authority))];
        if let Some(own) = own {
            options.push(format!("kv.certfile={}", self.path(&format!("{own}.pem"))));
            options.push(format!("kv.keyfile={}", self.path(&format!("{own}.key"))));
        }
        options
    }
}
