//! The first global adapter, common to all clients.
//!
//! `s·B·A` is 0 in all of them, or was taken out of the base before (OLoRA), so that training starts at the base model. `A`
//! must be the same everywhere: means of independently drawn `A` shrink with the number of clients, and methods that freeze
//! `A` are exact only over a common one. Each tensor is drawn from a stream of its own name, so that adapting one more
//! module changes no other.

mod drawn;
mod pissa;

use std::sync::Arc;

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, FirstValues, ModuleName, ModuleSpec, Purpose, Seed, Side, Tensor, names,
};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{AggregationError, low_rank::Matrix};

/// How the first factors are made. Each is a row of [`INITS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// LoRA: `A` Kaiming uniform with `a = sqrt(5)`, that is `U(-1/sqrt(d_in), 1/sqrt(d_in))`, as PEFT has it; rows have a
    /// length of about 0.58. VeRA: `lambda_d = 0.1`, `lambda_b = 0`. LoRA-XS: constants from the frozen weight, `R = 0`.
    Default,
    /// `A` normal with deviation `1/r`, as PEFT has it.
    Gaussian,
    /// `A` with orthonormal rows, uniformly distributed.
    Orthonormal,
    /// PEFT's `orthogonal`: both factors normal with deviation 0.1, within subspaces of the `r` dimensions between them that
    /// are orthogonal to each other, so that `B·A = 0` though neither is. The rank must be even.
    Orthogonal,
    /// The top `r` right singular vectors of the frozen weight, scaled by the roots of their singular values: `A` of
    /// `PiSSA` (arXiv 2404.02948, eq. 3). Departure: `B` stays 0 and the base unchanged, where the paper also takes `B`
    /// from the SVD and subtracts the product from the base, which would have to be shipped to every client.
    Pissa,
    /// Both factors from the QR of the frozen weight, whose product leaves the base (OLoRA, arXiv 2406.01775). Every client
    /// takes it out of its own base, for the adapter's kind says so: see [`AdapterKind::Olora`].
    Olora,
    /// `A` of the directions in which the inputs of each layer vary most over public data (EVA, arXiv 2410.07170); `B` is 0.
    /// Somebody with the model and the data finds them: see [`initial_from`]. Every module keeps its rank (`rho` is 1).
    Eva,
}

/// An initialisation as it is known to users.
#[derive(Debug, Clone, Copy)]
pub struct InitRow {
    /// The initialisation.
    pub init: Init,
    /// In configuration files.
    pub name: &'static str,
    /// `init_lora_weights` in PEFT; none where PEFT has another meaning for the name, or no such initialisation.
    pub peft: Option<&'static str>,
    /// Adapter kinds that can begin so.
    pub kinds: &'static [AdapterKind],
    /// Whether it comes from the frozen weights.
    pub needs_weights: bool,
    /// Whether it comes from what the model makes of data.
    pub needs_data: bool,
}

const PLAIN: &[AdapterKind] = &[AdapterKind::Lora, AdapterKind::Dora];

/// Every initialisation.
pub const INITS: &[InitRow] = &[
    InitRow {
        init: Init::Default,
        name: "default",
        peft: Some("true"),
        kinds: &[AdapterKind::Lora, AdapterKind::Vera, AdapterKind::Dora, AdapterKind::LoraXs],
        needs_weights: false,
        needs_data: false,
    },
    InitRow {
        init: Init::Gaussian,
        name: "gaussian",
        peft: Some("gaussian"),
        kinds: PLAIN,
        needs_weights: false,
        needs_data: false,
    },
    InitRow {
        init: Init::Orthonormal,
        name: "orthonormal",
        peft: None,
        kinds: PLAIN,
        needs_weights: false,
        needs_data: false,
    },
    InitRow {
        init: Init::Orthogonal,
        name: "orthogonal",
        peft: Some("orthogonal"),
        kinds: PLAIN,
        needs_weights: false,
        needs_data: false,
    },
    InitRow { init: Init::Pissa, name: "pissa", peft: None, kinds: PLAIN, needs_weights: true, needs_data: false },
    InitRow {
        init: Init::Olora,
        name: "olora",
        peft: Some("olora"),
        kinds: &[AdapterKind::Olora],
        needs_weights: true,
        needs_data: false,
    },
    InitRow { init: Init::Eva, name: "eva", peft: Some("eva"), kinds: PLAIN, needs_weights: false, needs_data: true },
];

impl Init {
    /// Its row in [`INITS`].
    #[must_use]
    pub fn row(self) -> &'static InitRow {
        // Bounds: a test finds every initialisation's row.
        INITS.iter().find(|row| row.init == self).unwrap_or(&INITS[0])
    }

    /// Whether the first adapter comes from what the model makes of data.
    #[must_use]
    pub fn needs_data(self) -> bool {
        self.row().needs_data
    }

    /// Whether the first adapter comes from the frozen weights.
    #[must_use]
    pub fn needs_weights(self) -> bool {
        self.row().needs_weights
    }
}

/// The first global adapter of a run.
///
/// Where nothing else is asked for, and for the head, [`Adapter::initial_over`]. `frozen_weight` gives a module's
/// `d_out x d_in` weight; only initialisations and adapter kinds that need weights ask.
///
/// # Errors
/// An unusable specification; an initialisation that the adapter's kind cannot have; a rank above a module's width, or an
/// odd one for [`Init::Orthogonal`]; a frozen weight that is missing or misshapen.
pub fn initial(
    spec: Arc<AdapterSpec>,
    init: Init,
    seed: Seed,
    frozen_weight: &dyn Fn(&ModuleName) -> Option<Tensor>,
) -> Result<Adapter, AggregationError> {
    let first = spec.first_values(frozen_weight)?;
    initial_from(spec, init, seed, &first, frozen_weight)
}

/// The same from what somebody with the frozen weights has taken from them, for [`AdapterSpec::first_values`], and for
/// [`Init::Eva`] the factors `A` by their names in files.
///
/// # Errors
/// As [`initial`]; values that do not fill their tensors, or are not there.
pub fn initial_from(
    spec: Arc<AdapterSpec>,
    init: Init,
    seed: Seed,
    first: &FirstValues,
    frozen_weight: &dyn Fn(&ModuleName) -> Option<Tensor>,
) -> Result<Adapter, AggregationError> {
    let row = init.row();
    if !row.kinds.contains(&spec.kind) {
        return Err(AggregationError::UnsupportedInit { init: row.name, kind: spec.kind, supported: row.kinds });
    }
    let adapter = Adapter::initial_from(spec, seed, first)?;
    if matches!(init, Init::Default | Init::Olora) {
        return Ok(adapter);
    }
    let (spec, mut modules, head) = adapter.into_parts();
    for (name, factors) in &mut modules {
        if init == Init::Eva {
            factors.a = described(&spec, name, first)?;
            continue;
        }
        let rng = seed.named(Purpose::Init, &names::factor(spec.kind, name, Side::A));
        let made = first_factors(&spec, &spec.modules[name], init, rng, || frozen_weight(name));
        let First { a, b } = made.map_err(|error| error.in_module(name))?;
        factors.a = a;
        if let Some(b) = b {
            factors.b = b;
        }
    }
    Ok(Adapter::new(spec, modules, head)?)
}

/// `A` of a module as somebody found it.
fn described(spec: &AdapterSpec, name: &ModuleName, first: &FirstValues) -> Result<Tensor, AggregationError> {
    let values = first.get(&names::factor(spec.kind, name, Side::A)).cloned();
    let values = values.ok_or_else(|| AggregationError::MissingDirections.in_module(name))?;
    Ok(Tensor::new(spec.shape(&spec.modules[name], Side::A), values)?)
}

/// First factors of a module; without `b`, it stays 0.
struct First {
    a: Tensor,
    b: Option<Tensor>,
}

fn first_factors(
    spec: &AdapterSpec,
    module: &ModuleSpec,
    init: Init,
    mut rng: impl Rng,
    frozen_weight: impl FnOnce() -> Option<Tensor>,
) -> Result<First, AggregationError> {
    let rank = spec.rank_of(module);
    let a = match init {
        Init::Orthogonal => return drawn::orthogonal(rank, module, &mut rng),
        Init::Pissa => {
            let weight = frozen_weight().ok_or(AggregationError::MissingWeight)?;
            pissa::principal_rows(&weight, module, rank)?
        }
        Init::Gaussian => drawn::normal(rank, module.d_in, &mut rng)?,
        // The other three are complete before anything is drawn.
        Init::Orthonormal | Init::Default | Init::Olora | Init::Eva => {
            drawn::orthonormal_rows(rank, module.d_in, &mut rng)?
        }
    };
    Ok(First { a, b: None })
}

fn refuse_wide(rank: usize, width: usize) -> Result<(), AggregationError> {
    if rank > width { Err(AggregationError::RankTooLarge { rank, width }) } else { Ok(()) }
}

fn gaussian(rows: usize, columns: usize, rng: &mut impl Rng) -> Matrix {
    Matrix::from_fn(rows, columns, |_, _| rng.sample(StandardNormal))
}
