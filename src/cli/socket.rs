//! Finds the local daemon: a service listens where engines look for plain plugins, and a managed plugin in the
//! directory that its engine has given it.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

/// The socket at `usual`, or the one of its name below a managed plugin's directory beside it if only that one
/// answers.
pub(super) fn find(usual: &Path) -> PathBuf {
    if answers(usual) {
        return usual.to_owned();
    }
    let (Some(directory), Some(name)) = (usual.parent(), usual.file_name()) else { return usual.to_owned() };
    let plugins = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut sockets: Vec<PathBuf> = plugins.map(|entry| entry.path().join(name)).collect();
    sockets.sort();
    sockets.into_iter().find(|socket| answers(socket)).unwrap_or_else(|| usual.to_owned())
}

fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_service_goes_before_a_managed_plugin_and_who_answers_before_who_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |place: &str| dir.path().join(place);
        let usual = at("rs-overlay.sock");
        assert_eq!(find(&usual), usual);
        for plugin in ["0", "1"] {
            fs::create_dir(at(plugin)).unwrap();
        }
        drop(UnixListener::bind(at("0/rs-overlay.sock")).unwrap());
        assert_eq!(find(&usual), usual);
        let plugin = UnixListener::bind(at("1/rs-overlay.sock")).unwrap();
        assert_eq!(find(&usual), at("1/rs-overlay.sock"));
        let service = UnixListener::bind(&usual).unwrap();
        assert_eq!(find(&usual), usual);
        drop((plugin, service));
    }
}
