//! Debian's `Packages` and `Release` files: stanzas of `Field: value` lines.

use anyhow::{Context, Result};

/// One package as a suite's index describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// Version with epoch and Debian revision.
    pub(super) version: String,
    /// Path of the archive below the mirror's base address.
    pub(super) filename: String,
    /// SHA-256 of the archive, in lower case hex.
    pub(super) sha256: String,
}

/// The last entry for `name`: an index that lists several versions has the newest last.
pub(super) fn find(packages: &str, name: &str) -> Result<Package> {
    let stanza = packages
        .split("\n\n")
        .filter(|stanza| field(stanza, "Package") == Some(name))
        .last()
        .with_context(|| format!("the suite has no package {name}"))?;
    let get = |key| {
        field(stanza, key).map(str::to_owned).with_context(|| format!("{name} has no {key} in the index"))
    };
    Ok(Package { version: get("Version")?, filename: get("Filename")?, sha256: get("SHA256")? })
}

/// Upstream part of a Debian version: `5:28.5.2+dfsg-1` is `28.5.2+dfsg`.
pub(super) fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    version.rsplit_once('-').map_or(version, |(upstream, _revision)| upstream)
}

/// SHA-256 that a `Release` file gives for the file at `path`.
pub(super) fn release_sha256(release: &str, path: &str) -> Result<String> {
    release
        .lines()
        .skip_while(|line| *line != "SHA256:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let (hash, _size, name) = (words.next()?, words.next()?, words.next()?);
            (name == path).then(|| hash.to_owned())
        })
        .with_context(|| format!("the Release file gives no SHA256 for {path}"))
}

/// Value of a field that fits on one line. Names are compared without regard to case, as Debian policy 5.1 says.
fn field<'a>(stanza: &'a str, key: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: &str = "\
Package: docker.io-doc
Version: 1-1
Filename: pool/wrong.deb
SHA256: 00

Package: docker.io
Architecture: amd64
Version: 20.10.5+dfsg1-1+deb11u2
Depends: adduser,
 Package: not-a-field
Filename: pool/old.deb
SHA256: aa

Package: docker.io
Version: 5:28.5.2+dfsg4-1
Filename: pool/new.deb
SHA256: bb

";

    #[test]
    fn the_last_entry_with_exactly_that_name_wins() {
        let package = find(PACKAGES, "docker.io").unwrap();
        assert_eq!(
            package,
            Package {
                version: "5:28.5.2+dfsg4-1".into(),
                filename: "pool/new.deb".into(),
                sha256: "bb".into()
            }
        );
    }

    #[test]
    fn a_missing_package_or_field_is_named() {
        assert!(find(PACKAGES, "consul").unwrap_err().to_string().contains("consul"));
        let error = find("Package: consul\nVersion: 1\nSHA256: cc\n", "consul").unwrap_err().to_string();
        assert!(error.contains("Filename"), "{error}");
    }

    #[test]
    fn epoch_and_revision_are_not_upstreams() {
        assert_eq!(upstream("5:28.5.2+dfsg4-1"), "28.5.2+dfsg4");
        assert_eq!(upstream("26.1.5+dfsg1-9+b1"), "26.1.5+dfsg1");
        assert_eq!(upstream("7"), "7");
    }

    #[test]
    fn only_the_sha256_section_of_a_release_counts() {
        let release =
            "MD5Sum:\n 11 5 main/Packages.xz\nSHA256:\n 22 9 main/Packages\n 33 5 main/Packages.xz\nX: y\n";
        assert_eq!(release_sha256(release, "main/Packages.xz").unwrap(), "33");
        assert!(release_sha256(release, "other").is_err());
    }
}
