//! A certificate that stays young by itself.

use std::{fs, path::Path, sync::Arc, time::Duration};

use fedlora_proto::federation::RenewRequest;
use rcgen::KeyPair;

use crate::{
    Backoff, Dialer, Identity, clock,
    dialer::Unreachable,
    identity::{self, IdentityError, lifetime},
    tls::{Shown, TlsError},
};

/// Longest sleep: a clock that someone sets is noticed within it.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// Shortest time between two renewals.
const PAUSE: Duration = Duration::from_mins(1);

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewalError {
    /// The coordinator cannot be reached, or refuses.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The identity's files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What the coordinator sent.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Trades the identity's certificate for a younger one of the same key, shows it from now on and writes it down.
///
/// The key stays, so that there is one file to replace, which happens as a whole or not at all.
///
/// # Errors
/// A coordinator that does not answer or refuses; a certificate that cannot be used. The old one then stays.
pub async fn renew(dialer: &Dialer, identity: &Identity, shown: &Shown) -> Result<(), RenewalError> {
    let key = KeyPair::from_pem(&identity.key_pem).map_err(IdentityError::from)?;
    let request = RenewRequest { csr_pem: identity::request(&key)? };
    let answer = dialer.identity().renew(dialer.request(request)).await;
    let certificate_pem = answer.map_err(|status| dialer.unreachable(&status))?.into_inner().certificate_pem;
    shown.replace(&certificate_pem, &identity.key_pem)?;
    identity::store_certificate(identity.folder(), &certificate_pem)?;
    Ok(())
}

/// Renews whenever two thirds of the certificate's life are over, for ever; `renewed` is told each time.
pub(crate) async fn keep_young(
    dialer: Arc<Dialer>,
    identity: Identity,
    shown: Arc<Shown>,
    mut backoff: Backoff,
    renewed: impl Fn(),
) {
    loop {
        let wait = wait(&identity.folder().join("certificate.pem"), clock::now_ms());
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(LOOK_EVERY)).await;
            continue;
        }
        match renew(&dialer, &identity, &shown).await {
            Ok(()) => {
                tracing::info!("certificate renewed");
                backoff.reset();
                renewed();
                // A clock that is far ahead takes the new certificate for an old one.
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::warn!(%error, "certificate not renewed yet");
                tokio::time::sleep(backoff.next(None)).await;
            }
        }
    }
}

/// Time until a certificate is to be renewed. One that cannot be read is looked at again later.
fn wait(certificate: &Path, now_ms: u64) -> Duration {
    let lifetime = fs::read_to_string(certificate).ok().and_then(|pem| lifetime(&pem));
    lifetime.map_or(LOOK_EVERY, |lifetime| Duration::from_millis(lifetime.renew_at_ms().saturating_sub(now_ms)))
}
