//! Where the command line meets the server and the register of identities.

use std::{future::Future, path::Path};

use super::Failure;
use crate::Timestamp;

/// Serves with a configuration until `shutdown` ends.
pub(super) fn serve(
    table: toml::Table,
    shutdown: impl Future<Output = ()>,
) -> impl Future<Output = Result<(), Failure>> {
    drop((table, shutdown));
    std::future::ready(Err(Failure::refused("this build holds no server")))
}

/// Makes the certificate authority of a state directory.
pub(super) fn make_authority(state: &Path, hosts: &[String], now: Timestamp) -> Result<(), Failure> {
    let _ = (hosts, now);
    Err(Failure::refused(format!("this build holds no certificate authority for {}", state.display())))
}

/// Writes the identity of an operator into a folder.
pub(super) fn issue_operator(state: &Path, folder: &Path, name: &str, now: Timestamp) -> Result<(), Failure> {
    let _ = (folder, name, now);
    Err(Failure::refused(format!("this build holds no register of identities for {}", state.display())))
}
