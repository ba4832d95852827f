//! What the engine calls our driver. It names a plain plugin after its socket, and a managed one as the user did,
//! with a tag: `rs-overlay:latest`. A managed plugin is not told its name, but finds its id.

use std::{fs, path::Path, sync::OnceLock};

use super::{EngineApi, EngineError};

/// Length of a plugin's id.
const ID_LENGTH: usize = 64;

/// The name, or the way to learn it.
#[derive(Debug, Clone)]
pub struct DriverName {
    plugin: Option<String>,
    guess: String,
    told: OnceLock<String>,
}

impl DriverName {
    /// That of the plugin with this socket, whose directory the engine has mounted if it manages the plugin.
    pub fn of_socket(socket: &Path) -> Self {
        let stem = socket.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let plugin = socket.parent().and_then(|directory| plugin_at(directory, &mounts));
        Self { plugin, guess: stem.unwrap_or_else(|| "rs-overlay".to_owned()), told: OnceLock::new() }
    }

    /// Id of the managed plugin that this process is, if it is one.
    pub fn plugin(&self) -> Option<&str> {
        self.plugin.as_deref()
    }

    /// The name, for which a managed plugin asks `engine` once.
    pub async fn ask(&self, engine: &dyn EngineApi) -> Result<&str, EngineError> {
        if let (Some(id), None) = (&self.plugin, self.told.get()) {
            // Another task may have been faster.
            let _ = self.told.set(engine.plugin_name(id).await?);
        }
        Ok(self.known())
    }

    /// The name as far as it is known.
    pub fn known(&self) -> &str {
        self.told.get().unwrap_or(&self.guess)
    }
}

impl From<&str> for DriverName {
    fn from(name: &str) -> Self {
        Self { plugin: None, guess: name.to_owned(), told: OnceLock::new() }
    }
}

/// The plugin whose directory is mounted on `directory`, by the lines of proc(5) `mountinfo`: there the fourth
/// field is what is mounted, and the fifth where. An engine gives each plugin a directory named by its id.
fn plugin_at(directory: &Path, mounts: &str) -> Option<String> {
    let mounted = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (what, at) = (fields.next()?, fields.next()?);
        (Path::new(at) == directory).then_some(what)
    })?;
    let id = Path::new(mounted).file_name()?.to_str()?;
    let is_id = id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_finds_its_id() {
        let id = "7811d36d683be9bcaa93db640c67b6db1621e62b59cf1116da041c59251aac82";
        let mounts = format!(
            "1396 1378 0:171 / /var/run rw,relatime shared:569 - tmpfs tmpfs rw,mode=755\n\
             1399 1378 0:171 /docker/plugins/{id} /run/docker/plugins rw,relatime shared:569 - tmpfs tmpfs rw\n"
        );
        let find = |directory: &str, mounts: &str| plugin_at(Path::new(directory), mounts);
        assert_eq!(find("/run/docker/plugins", &mounts).as_deref(), Some(id));
        assert_eq!(find("/run/docker", &mounts), None);
        assert_eq!(find("/run/docker/plugins", &mounts.replace(id, "plugins")), None);
        assert_eq!(find("/run/docker/plugins", "\n \n1 2 3\n"), None);
    }

    #[test]
    fn a_plain_plugin_has_the_name_of_its_socket() {
        let name = DriverName::of_socket(Path::new("/tmp/there-is-no/blue.sock"));
        assert_eq!((name.known(), name.plugin()), ("blue", None));
    }
}
