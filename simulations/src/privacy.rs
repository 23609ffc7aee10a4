//! What private clients, or a private server, have released so far, and what it amounts to.
//!
//! One example, or one user, of one client is protected. Where clients have different people's data, what counts is the
//! client that has spent most; where a person may be at several, all that clients have spent is one history. That a client
//! was not asked in a round protects nobody from the coordinator, who chose, so only rounds in which a client trained are
//! counted, and all of these, whatever became of the update.

use std::collections::BTreeMap;

use fedlora_adapter::{ClientId, ProtectedUnit};
use fedlora_coordinator::config::CentralRelease;
use fedlora_privacy::{Accountant, Epsilon, PldAccountant, PrivacyError, RdpAccountant, SampledGaussian};
use serde::{Deserialize, Serialize};

/// What one client released in one round, or in all rounds so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClientRelease {
    /// Client number.
    pub client: u64,
    /// The Gaussian mechanism on Poisson samples.
    #[serde(flatten)]
    pub event: SampledGaussian,
}

/// A round's privacy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundPrivacy {
    /// What is protected: `example`, `user` or `client`.
    pub unit: String,
    /// The `delta` of `epsilon`.
    pub delta: f64,
    /// Spent so far by the client that has spent most; by all clients together, where people overlap; with central privacy,
    /// on every client.
    pub epsilon: Epsilon,
    /// The client that has spent most; absent with central privacy, and where people overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<u64>,
    /// What the clients of this round released.
    pub releases: Vec<ClientRelease>,
    /// What the server released, where it adds the noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub central: Option<CentralRelease>,
}

/// One client's privacy over a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClientPrivacy {
    /// Client number.
    pub client: u64,
    /// Spent in the whole run.
    pub epsilon: Epsilon,
    /// Noisy steps taken.
    pub steps: u64,
}

/// A whole run's privacy, and what the numbers mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryPrivacy {
    /// What is protected: `example`, `user` or `client`.
    pub unit: String,
    /// Data sets that must not be told apart: `add-or-remove-one`; `replace-one-by-nothing`, where a client that takes part
    /// in a round may have changed nothing.
    pub neighbours: String,
    /// How batches, or the clients of a round, are drawn: `poisson`; `any`, where nothing is assumed.
    pub sampling: String,
    /// Where noise came from: `simulated`, from the run's seed, which is an experiment and protects nobody.
    pub randomness: String,
    /// Whether one person's rows may be at several clients.
    #[serde(default)]
    pub people_overlap: bool,
    /// The `delta` of all `epsilon`.
    pub delta: f64,
    /// Largest over the clients, whose people are different; of all clients' releases together, where people overlap.
    pub epsilon: Epsilon,
    /// The clients that spent most, at most [`CLIENTS`] of them.
    pub clients: Vec<ClientPrivacy>,
    /// What the numbers do not cover.
    pub not_covered: Vec<String>,
}

/// Clients that a summary lists.
pub const CLIENTS: usize = 50;

/// Whom a run's clients protect.
#[derive(Debug, Clone, Copy, Default)]
pub struct Protected {
    /// The unit, where clients add the noise.
    pub unit: ProtectedUnit,
    /// Whether one person's rows may be at several clients.
    pub people_overlap: bool,
}

/// Histories of all clients, and of the server.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    protected: Protected,
    clients: BTreeMap<ClientId, Vec<SampledGaussian>>,
    server: Vec<SampledGaussian>,
}

impl Accounts {
    /// Adds what a client released.
    ///
    /// # Errors
    /// More steps than can be counted.
    pub fn add(&mut self, client: ClientId, event: SampledGaussian) -> Result<(), PrivacyError> {
        SampledGaussian::book(self.clients.entry(client).or_default(), event)
    }

    /// What the rounds done before have cost.
    pub fn of<'a>(rounds: impl Iterator<Item = &'a RoundPrivacy>, protected: Protected) -> Self {
        let mut accounts = Self { protected, ..Self::default() };
        for round in rounds {
            // What was recorded had been added before, so it adds up again.
            for release in &round.releases {
                let _ = accounts.add(ClientId(release.client), release.event);
            }
            let _ = round.central.map(|central| SampledGaussian::book(&mut accounts.server, central.event));
        }
        accounts
    }

    /// Books a round's releases, in client order whatever the order in which they ended; none if nothing was ever
    /// released.
    ///
    /// # Errors
    /// As [`Accounts::add`] and [`Accounts::largest`].
    pub fn book(
        &mut self,
        mut releases: Vec<ClientRelease>,
        central: Option<CentralRelease>,
        delta: f64,
    ) -> Result<Option<RoundPrivacy>, PrivacyError> {
        if let Some(release) = central {
            SampledGaussian::book(&mut self.server, release.event)?;
            let epsilon = Epsilon::of(&self.server, delta)?;
            let unit = "client".to_owned();
            return Ok(Some(RoundPrivacy { unit, delta, epsilon, client: None, releases, central }));
        }
        releases.sort_by_key(|release| release.client);
        for release in &releases {
            self.add(ClientId(release.client), release.event)?;
        }
        let Some((client, largest)) = self.largest(delta)? else { return Ok(None) };
        let unit = self.protected.unit.to_string();
        let (epsilon, client) =
            if self.protected.people_overlap { (self.together(delta)?, None) } else { (largest, Some(client.0)) };
        Ok(Some(RoundPrivacy { unit, delta, epsilon, client, releases, central: None }))
    }

    /// The client that has spent most at `delta`; none before the first release.
    ///
    /// # Errors
    /// A `delta` outside (0, 1).
    pub fn largest(&self, delta: f64) -> Result<Option<(ClientId, Epsilon)>, PrivacyError> {
        let Some((client, history, rdp)) = self.by_renyi(delta)?.into_iter().next() else { return Ok(None) };
        Ok(Some((client, Epsilon { pld: PldAccountant::new().epsilon(history, delta)?, rdp })))
    }

    /// What all clients' releases come to as one history, for a person who may be at each of them.
    fn together(&self, delta: f64) -> Result<Epsilon, PrivacyError> {
        let mut all = Vec::new();
        for event in self.clients.values().flatten() {
            SampledGaussian::book(&mut all, *event)?;
        }
        Epsilon::of(&all, delta)
    }

    /// The summary of a run; none if nothing was released.
    ///
    /// # Errors
    /// A `delta` outside (0, 1).
    pub fn summary(&self, delta: f64) -> Result<Option<SummaryPrivacy>, PrivacyError> {
        if !self.server.is_empty() {
            return self.central_summary(delta).map(Some);
        }
        let clients = self.by_renyi(delta)?.into_iter().take(CLIENTS).map(|(client, history, rdp)| {
            let epsilon = Epsilon { pld: PldAccountant::new().epsilon(history, delta)?, rdp };
            Ok(ClientPrivacy { client: client.0, epsilon, steps: history.iter().map(SampledGaussian::steps).sum() })
        });
        let clients = clients.collect::<Result<Vec<_>, PrivacyError>>()?;
        let most = |value: fn(&Epsilon) -> f64| clients.iter().map(|one| value(&one.epsilon)).fold(0.0, f64::max);
        let Protected { unit, people_overlap } = self.protected;
        let epsilon = if people_overlap {
            self.together(delta)?
        } else {
            Epsilon { pld: most(|epsilon| epsilon.pld), rdp: most(|epsilon| epsilon.rdp) }
        };
        let across: &[&str] = if people_overlap { &[] } else { &[ACROSS_CLIENTS] };
        Ok((!clients.is_empty()).then(|| SummaryPrivacy {
            unit: unit.to_string(),
            neighbours: "add-or-remove-one".to_owned(),
            sampling: "poisson".to_owned(),
            randomness: "simulated".to_owned(),
            people_overlap,
            delta,
            epsilon,
            clients,
            not_covered: NOT_COVERED.iter().chain(across).map(|&text| text.to_owned()).collect(),
        }))
    }

    /// The summary of a run whose server adds the noise.
    fn central_summary(&self, delta: f64) -> Result<SummaryPrivacy, PrivacyError> {
        let is_sampled = self.server.iter().any(|event| event.sample_rate() < 1.0);
        Ok(SummaryPrivacy {
            unit: "client".to_owned(),
            neighbours: "replace-one-by-nothing".to_owned(),
            sampling: if is_sampled { "poisson" } else { "any" }.to_owned(),
            randomness: "simulated".to_owned(),
            people_overlap: false,
            delta,
            epsilon: Epsilon::of(&self.server, delta)?,
            clients: Vec::new(),
            not_covered: CENTRAL_NOT_COVERED.map(str::to_owned).to_vec(),
        })
    }

    /// Clients by the `epsilon` of Rényi accounting, largest first: quick enough for every client in every round.
    fn by_renyi(&self, delta: f64) -> Result<Vec<Ranked<'_>>, PrivacyError> {
        let accountant = RdpAccountant::new();
        let mut all = Vec::with_capacity(self.clients.len());
        let mut last: Option<(&[SampledGaussian], f64)> = None;
        for (client, history) in &self.clients {
            // Clients of equal size have equal histories.
            let rdp = match last.filter(|(known, _)| *known == history.as_slice()) {
                Some((_, rdp)) => rdp,
                None => accountant.epsilon(history, delta)?,
            };
            last = Some((history, rdp));
            all.push((*client, history.as_slice(), rdp));
        }
        all.sort_by(|left, right| right.2.total_cmp(&left.2));
        Ok(all)
    }
}

/// A client, all that it released, and its `epsilon` by Rényi accounting.
type Ranked<'a> = (ClientId, &'a [SampledGaussian], f64);

const CENTRAL_NOT_COVERED: [&str; 4] = [
    "the server, which sees every update, and whoever reads the clients' updates on their way",
    "what clients keep: personal factors and heads leave no client, and have no noise",
    "evaluations, training losses and numbers of examples, which are computed from the data without noise",
    "choices made by looking at results: methods, hyper-parameters, early stopping",
];

const ACROSS_CLIENTS: &str = "people whose data are at several clients: what these reveal adds up (people-overlap)";

const NOT_COVERED: [&str; 3] = [
    "evaluations: accuracies and losses are computed from the data without noise",
    "choices made by looking at results: methods, hyper-parameters, early stopping",
    "training losses and numbers of examples, which private clients therefore do not send",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn event(noise: f64, steps: u64) -> SampledGaussian {
        SampledGaussian::new(noise, 0.1, steps).unwrap()
    }

    #[test]
    fn what_counts_is_the_client_that_spent_most() {
        let protected = Protected { unit: ProtectedUnit::User, people_overlap: false };
        let mut accounts = Accounts { protected, ..Accounts::default() };
        assert!(accounts.largest(1e-5).unwrap().is_none());
        for (client, steps) in [(0, 10), (1, 30), (0, 10)] {
            accounts.add(ClientId(client), event(1.0, steps)).unwrap();
        }
        let (client, epsilon) = accounts.largest(1e-5).unwrap().unwrap();
        assert_eq!(client, ClientId(1));
        let alone = PldAccountant::new().epsilon(&[event(1.0, 30)], 1e-5).unwrap();
        assert!((epsilon.pld - alone).abs() < 1e-12 && epsilon.rdp > epsilon.pld, "{epsilon:?}");
        let summary = accounts.summary(1e-5).unwrap().unwrap();
        assert_eq!(summary.clients.iter().map(|one| (one.client, one.steps)).collect::<Vec<_>>(), [(1, 30), (0, 20)]);
        assert!((summary.epsilon.pld - alone).abs() < 1e-12);
        assert_eq!((summary.unit.as_str(), summary.not_covered.last().unwrap().as_str()), ("user", ACROSS_CLIENTS));
    }

    #[test]
    fn where_people_overlap_all_that_clients_spent_is_one_history() {
        let mut accounts =
            Accounts { protected: Protected { people_overlap: true, ..Protected::default() }, ..Accounts::default() };
        let release = |client, noise, steps| ClientRelease { client, event: event(noise, steps) };
        let releases = vec![release(0, 1.0, 10), release(1, 2.0, 5), release(2, 1.0, 20)];
        let round = accounts.book(releases, None, 1e-5).unwrap().unwrap();
        let together = Epsilon::of(&[event(1.0, 30), event(2.0, 5)], 1e-5).unwrap();
        assert_eq!((round.epsilon, round.client), (together, None));
        let summary = accounts.summary(1e-5).unwrap().unwrap();
        assert_eq!((summary.epsilon, summary.people_overlap, summary.clients.len()), (together, true, 3));
        assert!(summary.clients.iter().all(|client| client.epsilon.pld < together.pld));
        assert!(!summary.not_covered.iter().any(|text| text == ACROSS_CLIENTS));
    }

    #[test]
    fn other_noise_is_another_event() {
        let mut accounts = Accounts::default();
        for noise in [1.0, 2.0, 1.0] {
            accounts.add(ClientId(0), event(noise, 5)).unwrap();
        }
        assert_eq!(accounts.clients[&ClientId(0)], [event(1.0, 10), event(2.0, 5)]);
    }
}
