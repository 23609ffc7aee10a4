//! Each client's own test rows.

use fedlora_adapter::{ClientId, Purpose, RoundId, Seed};

use super::{DataError, hold_out};

/// Holds out a share of one client's rows, label by label, so that its test rows follow the labels it trains on:
/// rows to train on, never none, and rows to test on, both ascending.
///
/// Test rows drawn apart from the training rows would ask a client about labels that it has never seen, and would not
/// measure personalisation. A label of which the client holds a single row is only trained on; of any other label at
/// least one row is tested, unless `fraction` is 0.
///
/// # Errors
///
/// Where the client has no rows, or `fraction` is not from 0 to below 1.
pub fn split_personal(
    rows: &[u32],
    labels: &[u32],
    fraction: f64,
    seed: Seed,
    client: ClientId,
) -> Result<(Vec<u32>, Vec<u32>), DataError> {
    if rows.is_empty() {
        return Err(DataError::EmptyClient { client });
    }
    if !(0.0..1.0).contains(&fraction) {
        return Err(DataError::PersonalFraction { found: fraction });
    }
    let rng = &mut seed.client(Purpose::Split, RoundId(0), client);
    let holdout = hold_out(rows, |row| labels.get(row as usize), fraction, rng);
    Ok((holdout.train, holdout.test))
}
