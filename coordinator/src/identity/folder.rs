//! An identity as a folder of files, for whoever enrols on the coordinator's own machine.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path};

use fedlora_adapter::ClientId;
use fedlora_proto::operator::CreateTokenRequest;
use rcgen::CertificateParams;
use serde_json::json;

use super::{
    IdentityError, Registry, Role,
    pki::{PkiError, new_key, write_new},
};
use crate::Timestamp;

/// A token that is used in the same breath.
const TTL_MS: u64 = 60_000;

impl Registry {
    /// Enrols somebody and writes the identity as `fedlora-client enroll` does: `key.pem`, `certificate.pem`, `ca.pem`,
    /// `access-token` and `identity.json` in a folder, readable by their owner alone. It is the first operator's way in.
    ///
    /// # Errors
    /// As [`Self::create_token`] and [`Self::enrol`]; a file that exists already, or cannot be written.
    pub fn issue_identity(
        &self,
        folder: &Path,
        name: &str,
        role: Role,
        now: Timestamp,
    ) -> Result<ClientId, IdentityError> {
        let names = ["key.pem", "certificate.pem", "ca.pem", "access-token", "identity.json"];
        let files = names.map(|file| folder.join(file));
        if let Some(path) = files.iter().find(|path| path.exists()) {
            return Err(PkiError::Exists { path: path.clone() }.into());
        }
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|source| PkiError::Io { path: folder.into(), source })?;
        let key = new_key()?;
        let request = CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
        let request = request.map_err(PkiError::Sign)?;
        let token = CreateTokenRequest {
            name: name.into(),
            role: role.as_str().into(),
            ttl_ms: TTL_MS,
            ..CreateTokenRequest::default()
        };
        let (_, token) = self.create_token(token, now)?;
        let issued = self.enrol(&token, &request, now)?;
        let named = json!({ "client_id": issued.client_id, "name": name }).to_string();
        let contents = [&key.serialize_pem(), &issued.certificate_pem, &issued.ca_pem, &issued.access_token, &named];
        for (path, content) in files.iter().zip(contents) {
            write_new(path, content.as_bytes())?;
        }
        Ok(ClientId(issued.client_id))
    }
}
