//! Everything that can go wrong between a set of updates and the next global adapter.

use fedlora_adapter::{AdapterError, AdapterKind, ClientId, ModuleName, Side};
use fedlora_privacy::PrivacyError;

/// Why there is no new global adapter, no method or no initial adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AggregationError {
    /// A round without updates cannot be aggregated.
    #[error("there are no updates")]
    NoUpdates,
    /// Two updates of one client in one round.
    #[error("{client} occurs twice")]
    DuplicateClient {
        /// The client.
        client: ClientId,
    },
    /// A weight that is negative, infinite or not a number.
    #[error("{client}: weight {weight} is not a finite number of at least 0")]
    BadWeight {
        /// The client.
        client: ClientId,
        /// The weight.
        weight: f64,
    },
    /// A client that would count more than sums with noise allow for.
    #[error("{client}: weight {weight} is not between 0 and 1, as differential privacy asks")]
    WeightAboveOne {
        /// The client.
        client: ClientId,
        /// The weight.
        weight: f64,
    },
    /// Differential privacy releases one mean of the clients' changes, and the method needs more.
    #[error(
        "this method asks more of the clients than the mean of their changes, which is all that central privacy releases; \
         use fedavg, ffa-lora, ffa-orthonormal, fedsa-lora, fedsvd or rolora"
    )]
    NotFromMean,
    /// Clipping or noise that is not possible.
    #[error("central privacy")]
    Privacy(#[from] PrivacyError),
    /// Weights that cannot be made into shares.
    #[error("the weights sum to {sum}, which is no finite positive number")]
    BadWeightSum {
        /// The sum over all clients.
        sum: f64,
    },
    /// The directive asks for a factor that an update lacks.
    #[error("{client} did not send factor {side}")]
    MissingFactor {
        /// The client.
        client: ClientId,
        /// The factor.
        side: Side,
    },
    /// The directive asks for an extra tensor that an update lacks.
    #[error("{client} did not send tensor {name}")]
    MissingExtra {
        /// The client.
        client: ClientId,
        /// The tensor.
        name: String,
    },
    /// A tensor of an update has another shape than the global adapter's.
    #[error("{client}: expected shape {expected:?}, found {found:?}")]
    WrongShape {
        /// The client.
        client: ClientId,
        /// Shape of the global adapter's tensor.
        expected: Vec<usize>,
        /// Shape of the client's tensor.
        found: Vec<usize>,
    },
    /// A method that trusts no single client needs more of them.
    #[error("method {method} needs at least {needed} updates, there are {found}")]
    TooFewUpdates {
        /// The method's name.
        method: &'static str,
        /// Updates that count.
        found: usize,
        /// Updates needed.
        needed: usize,
    },
    /// Too few updates for the number of them that may be malicious.
    #[error(
        "method {method} needs at least {needed} updates if {malicious} of them may be malicious, there are {found}"
    )]
    TooFewForMalicious {
        /// The method's name.
        method: &'static str,
        /// Updates that count.
        found: usize,
        /// Updates that may be malicious.
        malicious: usize,
        /// Updates needed.
        needed: usize,
    },
    /// A problem in one module.
    #[error("module {module}")]
    InModule {
        /// The module.
        module: ModuleName,
        /// What is wrong in it.
        #[source]
        source: Box<AggregationError>,
    },
    /// A factor is wider than the matrix it would have to span.
    #[error("rank {rank} exceeds the module's width {width}: there are no {rank} orthonormal rows")]
    RankTooLarge {
        /// The rank.
        rank: usize,
        /// Largest rank that is possible.
        width: usize,
    },
    /// An initialisation needs a frozen weight that the model does not have.
    #[error("the frozen weight is needed but not at hand")]
    MissingWeight,
    /// An initialisation from data that nobody has looked at.
    #[error("the directions of its inputs are needed but not at hand")]
    MissingDirections,
    /// A frozen weight of another shape than the module.
    #[error("the frozen weight has shape {found:?}, the module {expected:?}")]
    WrongWeightShape {
        /// `[d_out, d_in]`.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// An initialisation that the adapter kind cannot have.
    #[error("initialisation {init} is for {supported:?} adapters, not {kind:?}")]
    UnsupportedInit {
        /// Its name.
        init: &'static str,
        /// The kind asked for.
        kind: AdapterKind,
        /// The kinds that can begin so.
        supported: &'static [AdapterKind],
    },
    /// An initialisation that needs two halves of the rank.
    #[error("rank {rank} is odd: initialisation orthogonal gives half of its dimensions to each factor")]
    OddRank {
        /// The rank.
        rank: usize,
    },
    /// No method has this name.
    #[error("there is no method {name:?}; the nearest name is {nearest:?}")]
    UnknownMethod {
        /// The name asked for.
        name: String,
        /// The nearest name that exists.
        nearest: &'static str,
    },
    /// A method cannot serve this adapter kind.
    #[error("method {method} serves {supported:?} adapters, not {kind:?}")]
    UnsupportedKind {
        /// The method's name.
        method: &'static str,
        /// The kind asked for.
        kind: AdapterKind,
        /// The kinds that it serves.
        supported: &'static [AdapterKind],
    },
    /// A method has no such parameter.
    #[error("method {method} has no parameter {key:?}; {}", hint(nearest.as_deref()))]
    UnknownParameter {
        /// The method's name.
        method: &'static str,
        /// The key found.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A parameter of a wrong type.
    #[error("parameters of method {method}")]
    InvalidParameters {
        /// The method's name.
        method: &'static str,
        /// What the reader says.
        #[source]
        source: toml::de::Error,
    },
    /// A parameter outside of its range.
    #[error("method {method}: {key} = {found} is not {expected}")]
    OutOfRange {
        /// The method's name.
        method: &'static str,
        /// The parameter.
        key: &'static str,
        /// The range in words.
        expected: &'static str,
        /// The value found.
        found: f64,
    },
    /// A tensor that cannot be read, or a result that is no valid adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

impl AggregationError {
    /// The same, with the module in which it was found.
    pub(crate) fn in_module(self, module: &ModuleName) -> Self {
        Self::InModule { module: module.clone(), source: Box::new(self) }
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(|| "it has no parameters".to_owned(), |key| format!("the nearest is {key:?}"))
}
