//! Models by name from the Hugging Face Hub, kept in the cache that Python's `huggingface_hub` keeps, in its layout.
//!
//! ```text
//! HF_HOME/hub/models--org--name/
//!   blobs/<etag>                     contents, each once; <etag>.incomplete while they come
//!   refs/<revision>                  the commit that a branch or tag had last
//!   snapshots/<commit>/<file>        links into blobs/: a model directory like any other
//! ```
//!
//! The crate `hf-hub` is not used: its line 1 needs tokio, reqwest with a second cryptography library, and the Xet
//! protocol; its line 0, which is no longer developed, gives up after five seconds where another process downloads the same
//! file, and knows neither `HF_TOKEN` nor `HF_HUB_OFFLINE`.

mod answer;
mod download;
mod error;
mod name;
mod settings;
mod snapshot;

use std::path::PathBuf;

use ureq::{
    Agent,
    config::RedirectAuthHeaders,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

pub use error::HubError;
pub use name::HubName;
pub use settings::HubSettings;

use self::{answer::Listing, snapshot::Snapshot};
use crate::tokenizer::{CHAT_TEMPLATE, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG};
use crate::{
    images::PREPROCESSOR,
    model::{CONFIG, WEIGHTS, WEIGHTS_INDEX, shards},
};

/// Files beside the weights, as far as a repository has them; the one that every model has comes last, and where it is, the
/// others are.
const FILES: [&str; 6] = [TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, GENERATION_CONFIG, PREPROCESSOR, CONFIG];

/// A place to get models from.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    agent: Agent,
}

impl Hub {
    /// The Hub of some settings.
    ///
    /// # Errors
    /// [`HubError::File`] for certificates that cannot be read.
    pub fn new(settings: HubSettings) -> Result<Self, HubError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("fedlora/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(settings.patience))
            .timeout_recv_response(Some(settings.patience))
            .timeout_per_read(Some(settings.patience))
            .tls_config(TlsConfig::builder().root_certs(roots(&settings)?).build());
        Ok(Self { agent: config.build().into(), settings })
    }

    /// A directory with a model's files, with its weights or without. What the cache has is not fetched again; a commit
    /// that it has whole needs no network at all.
    ///
    /// # Errors
    /// See [`HubError`]. What came of a file before an interruption stays, and the next call goes on from there.
    pub fn fetch(&self, name: &HubName, revision: &str, weights: bool) -> Result<PathBuf, HubError> {
        let cached = Snapshot::cached(&self.settings.cache, name, revision);
        if let Some(snapshot) = cached.as_ref().filter(|found| found.is_of(revision) && found.is_whole(weights)) {
            return Ok(snapshot.directory());
        }
        if self.settings.offline {
            return self.offline(name, revision, cached, weights);
        }
        let listing = match self.listing(name, revision) {
            // As `huggingface_hub` does: what was fetched once is of use without a network.
            Err(error @ HubError::Unreachable { .. }) => {
                let whole = cached.filter(|snapshot| snapshot.is_whole(weights));
                return whole.map(|snapshot| snapshot.directory()).ok_or(error);
            }
            other => other?,
        };
        let snapshot = Snapshot::new(&self.settings.cache, name, &listing.sha);
        self.fill(&snapshot, &listing, weights)?;
        snapshot.refer(revision)?;
        Ok(snapshot.directory())
    }

    fn offline(
        &self,
        name: &HubName,
        revision: &str,
        cached: Option<Snapshot>,
        weights: bool,
    ) -> Result<PathBuf, HubError> {
        match cached {
            Some(snapshot) if snapshot.is_whole(weights) => Ok(snapshot.directory()),
            _ => Err(HubError::Offline {
                repository: name.to_string(),
                revision: revision.to_owned(),
                cache: self.settings.cache.clone(),
            }),
        }
    }

    /// Brings a snapshot's files here. Weights come last, so that what is small and wrong is found first.
    fn fill(&self, snapshot: &Snapshot, listing: &Listing, weights: bool) -> Result<(), HubError> {
        let missing = |file: &'static str| HubError::NoFile { repository: snapshot.repository(), file };
        if !listing.has(CONFIG) {
            return Err(missing(CONFIG));
        }
        for file in FILES.into_iter().filter(|file| listing.has(file)) {
            self.bring(snapshot, listing.file(file))?;
        }
        match (weights, listing.has(WEIGHTS), listing.has(WEIGHTS_INDEX)) {
            (false, ..) => Ok(()),
            (true, true, _) => self.bring(snapshot, listing.file(WEIGHTS)),
            (true, false, false) => Err(missing(WEIGHTS)),
            (true, false, true) => {
                self.bring(snapshot, listing.file(WEIGHTS_INDEX))?;
                let index = snapshot.directory().join(WEIGHTS_INDEX);
                let names = shards(&index).map_err(|error| HubError::Index { source: Box::new(error) })?;
                names.iter().try_for_each(|file| self.bring(snapshot, listing.file(file)))
            }
        }
    }
}

/// Mozilla's certificates, or those of a file, as institutions have them whose network looks into connections.
fn roots(settings: &HubSettings) -> Result<RootCerts, HubError> {
    let Some(file) = &settings.certificates else { return Ok(RootCerts::WebPki) };
    let failed = |source| HubError::File { file: file.clone(), source };
    let pem = std::fs::read(file).map_err(failed)?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let found: Vec<_> = parse_pem(&pem).filter_map(certificate).collect();
    if found.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "no certificate in PEM");
        return Err(failed(source));
    }
    Ok(RootCerts::new_with_certs(&found))
}
