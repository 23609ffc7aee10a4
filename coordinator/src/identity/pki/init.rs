//! `pki init`: an authority and the coordinator's first certificate.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path};

use super::{Authority, PkiError, PkiPaths, new_key, write_new};
use crate::Timestamp;

/// Hosts that every certificate of a coordinator is for, so that its own machine can always talk to it.
pub const ALWAYS_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes an authority for ten years and the coordinator's certificate for a year, for `host_names` (DNS names and IP
/// addresses) and for this machine itself. All files are readable by their owner alone.
///
/// # Errors
/// A file exists already: nothing is overwritten. A host that no certificate can be for, or a file that cannot be
/// written.
pub fn init_pki(folder: &Path, host_names: &[String], now: Timestamp) -> Result<PkiPaths, PkiError> {
    let paths = PkiPaths::new(folder);
    if let Some(path) = paths.all().into_iter().find(|path| path.exists()) {
        return Err(PkiError::Exists { path: path.into() });
    }
    let (authority, authority_key) = Authority::generate(now)?;
    let server = issue_server(&authority, &all_hosts(host_names), now)?;
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|source| PkiError::Io { path: folder.into(), source })?;
    write_new(&paths.ca_key, authority_key.as_bytes())?;
    write_new(&paths.ca, authority.pem().as_bytes())?;
    write_new(&paths.server, server.as_bytes())?;
    Ok(paths)
}

/// A fresh certificate of the coordinator and its key, as they are stored.
pub(crate) fn issue_server(authority: &Authority, hosts: &[String], now: Timestamp) -> Result<String, PkiError> {
    let key = new_key()?;
    let issued = authority.issue_server(hosts, &key, now)?;
    Ok(format!("{}{}", issued.pem, key.serialize_pem()))
}

/// The hosts that were asked for, and those that are always there, each once.
fn all_hosts(asked: &[String]) -> Vec<String> {
    let mut hosts = asked.to_vec();
    hosts.extend(ALWAYS_HOSTS.map(String::from));
    let mut seen = std::collections::BTreeSet::new();
    hosts.retain(|host| seen.insert(host.to_ascii_lowercase()));
    hosts
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use rustls::pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;
    use crate::identity::pki::{host_names, not_after};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn init(folder: &Path, hosts: &[&str]) -> Result<PkiPaths, PkiError> {
        init_pki(folder, &hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>(), NOW)
    }

    #[test]
    fn the_certificate_is_for_the_hosts_asked_for_and_this_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = init(folder.path(), &["fl.example.org", "10.1.2.3", "LOCALHOST"]).expect("an authority");
        let der = CertificateDer::from_pem_file(&paths.server).expect("a certificate");
        let hosts = host_names(&der).expect("hosts");
        assert_eq!(hosts, ["fl.example.org", "10.1.2.3", "LOCALHOST", "127.0.0.1", "::1"]);
        assert_eq!(not_after(&der), Some(NOW + super::super::SERVER_LIFETIME_MS));
        assert!(Authority::load(&paths).is_ok());
    }

    #[test]
    fn files_are_private_and_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let pki = folder.path().join("pki");
        let paths = init(&pki, &[]).expect("an authority");
        for path in paths.all() {
            assert_eq!(fs::metadata(path).expect("a file").permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
        assert_eq!(fs::metadata(&pki).expect("a folder").permissions().mode() & 0o777, 0o700);
        let before = fs::read(&paths.ca_key).expect("a key");
        assert!(matches!(init(&pki, &[]), Err(PkiError::Exists { .. })));
        assert_eq!(fs::read(&paths.ca_key).expect("a key"), before);
    }

    #[test]
    fn a_host_that_is_none_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        for host in ["", "a b", "https://x", "x:8443", "*.example.org"] {
            let refused = init(folder.path(), &[host]);
            assert!(matches!(refused, Err(PkiError::BadHost { .. })), "{host:?}: {refused:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_key_of_another_authority_is_noticed() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let paths = init(first.path(), &[]).expect("an authority");
        let other = init(second.path(), &[]).expect("an authority");
        fs::copy(&other.ca_key, &paths.ca_key).expect("copied");
        assert!(matches!(Authority::load(&paths), Err(PkiError::BadFile { .. })));
        fs::remove_file(&paths.ca).expect("removed");
        let text = Authority::load(&paths).expect_err("no authority").to_string();
        assert!(text.contains("pki init"), "{text}");
    }
}
