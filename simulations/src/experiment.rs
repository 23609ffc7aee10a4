//! Everything that the runs of a comparison share: the base model, the examples, who holds which.
//!
//! The base is loaded once whatever the number of clients, methods and seeds.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, AdapterSpec, ClientId, FirstValues, ModuleName, PeftOptions, Seed};
use fedlora_aggregation::{self as aggregation, Init};
use fedlora_learner::{
    Dataset, Device, EvaluationPlan, LearnerError, LoadedData, Model, PublicRows, Questions, TextTokenizer,
    data::split_personal, selected_modules,
};

use crate::{builtin, config::Config, error::SimulationError, partition};

/// A base model and the examples that runs train and test on.
#[derive(Debug, Clone)]
pub struct Material {
    /// The frozen base.
    pub model: Arc<dyn Model>,
    /// The same on each further device.
    pub copies: Vec<Arc<dyn Model>>,
    /// The clients' examples.
    pub train: Arc<Dataset>,
    /// The global test set.
    pub test: Arc<Dataset>,
    /// Row lists that came with the data, one for each client.
    pub given: Option<Vec<Vec<u32>>>,
    /// Rows that are nobody's secret, where the first adapter comes from such.
    pub public: Option<PublicRows>,
    /// What PEFT files say about the base.
    pub peft: PeftOptions,
    /// Rows that were left out because their prompts leave no room for a response.
    pub left_out: usize,
    /// The model's tokenizer; none for images.
    pub tokenizer: Option<TextTokenizer>,
}

/// Where clients train.
#[derive(Debug, Clone)]
pub struct Devices {
    /// The first one, on which models are tested as well.
    pub first: Device,
    /// Further ones.
    pub others: Vec<Device>,
}

impl From<Device> for Devices {
    fn from(first: Device) -> Self {
        Self { first, others: Vec::new() }
    }
}

/// Who holds which rows of the training set.
#[derive(Debug, Clone, PartialEq)]
pub struct Clients {
    /// Rows that each client trains on.
    pub train: BTreeMap<ClientId, Vec<u32>>,
    /// Rows that each client keeps back to test its personal model.
    pub own_tests: BTreeMap<ClientId, Vec<u32>>,
}

impl Material {
    /// Loads the base model on every device and reads the examples as the model reads them, or makes those that ship
    /// with the program.
    ///
    /// # Errors
    /// Names the file, tensor or line that is wrong.
    pub fn load(config: &Config, devices: &Devices) -> Result<Self, SimulationError> {
        if builtin::is_model(&config.model.path) || builtin::is_data(&config.data.source.path) {
            return builtin::material(config, devices);
        }
        let (base, seed) = (config.model.locate()?, Seed(config.run.seed));
        let (model, preprocessor) = base.load(seed, &devices.first)?;
        let copy = |device| base.load(seed, device).map(|(model, _)| model);
        let copies = devices.others.iter().map(copy).collect::<Result<_, _>>()?;
        let data = LoadedData::load(&config.data.source, &preprocessor, Seed(config.run.seed))?;
        let given = data.clients().map(<[Vec<u32>]>::to_vec);
        let (train, test) = data.datasets(&preprocessor, config.data.source.max_length)?;
        let peft = base.peft(config.run.lora.lora_dropout);
        let public = config.eva()?.map(|eva| eva.load(&preprocessor, Seed(config.run.seed))).transpose()?;
        let (left_out, tokenizer) = (data.left_out(), preprocessor.into_text());
        let (train, test) = (Arc::new(train), Arc::new(test));
        Ok(Self { model, copies, train, test, given, public, peft, left_out, tokenizer })
    }

    /// The model on the device of a client that trains by itself.
    pub(crate) fn model_of(&self, client: ClientId) -> &Arc<dyn Model> {
        let place = client.0 % (1 + self.copies.len() as u64);
        // Place 0 is the first device's, and no other place is missing.
        place.checked_sub(1).and_then(|copy| self.copies.get(copy as usize)).unwrap_or(&self.model)
    }

    /// How models are tested on some rows of one of the two data sets.
    ///
    /// # Errors
    /// No rows; where answers are asked for, a model that writes no text, and rows without questions or answers.
    pub fn evaluation(&self, config: &Config, dataset: &Dataset, rows: &[u32]) -> Result<EvaluationPlan, LearnerError> {
        let plan = EvaluationPlan::new(dataset, rows)?;
        let Some(settings) = config.exact_match else { return Ok(plan) };
        let tokenizer = self.tokenizer.as_ref().filter(|_| self.model.decoder().is_some());
        let tokenizer = tokenizer.ok_or(LearnerError::NotADecoder)?;
        Ok(plan.asking(Questions::new(dataset, rows, tokenizer, settings)?))
    }

    /// Divides the training rows among clients by the configuration.
    ///
    /// # Errors
    /// A partition that cannot be made as asked; a client without a row.
    pub fn clients(&self, config: &Config) -> Result<Clients, SimulationError> {
        let seed = Seed(config.run.seed);
        let settings = &config.data.partition;
        let parts = partition::partition(settings, &self.train, self.given.as_deref(), seed)?;
        let mut clients = Clients { train: BTreeMap::new(), own_tests: BTreeMap::new() };
        for (index, rows) in parts.into_iter().enumerate() {
            let client = ClientId(index as u64);
            let fraction = settings.personal_test_fraction;
            let (train, own) = split_personal(&rows, self.train.labels(), fraction, seed, client)?;
            clients.train.insert(client, train);
            clients.own_tests.insert(client, own);
        }
        Ok(clients)
    }

    /// One client that holds the training rows of all: the centralised reference.
    #[must_use]
    pub fn centralised(clients: &Clients) -> Clients {
        let all = |parts: &BTreeMap<ClientId, Vec<u32>>| {
            let mut rows: Vec<u32> = parts.values().flatten().copied().collect();
            rows.sort_unstable();
            BTreeMap::from([(ClientId(0), rows)])
        };
        Clients { train: all(&clients.train), own_tests: all(&clients.own_tests) }
    }

    /// The adapter's specification under a configuration and a method.
    ///
    /// # Errors
    /// A method that cannot serve the adapter; target modules that match nothing.
    pub fn spec(&self, config: &Config) -> Result<Arc<AdapterSpec>, SimulationError> {
        let modules = selected_modules(&*self.model, &config.run.lora.selection())?;
        Ok(config.run.spec(modules, self.model.head_spec(self.train.label_names().len()))?)
    }

    /// The adapter before the first round, common to all clients.
    ///
    /// # Errors
    /// An initialisation that the adapter's kind does not have, or for which there are no public rows.
    pub fn initial(&self, spec: &Arc<AdapterSpec>, init: Init, seed: u64) -> Result<Adapter, SimulationError> {
        let weight = |module: &ModuleName| self.model.frozen_weight(module);
        let first = self.first_values(spec, init)?;
        Ok(aggregation::initial_from(Arc::clone(spec), init, Seed(seed), &first, &weight)?)
    }

    /// What the first adapter takes from the frozen weights, and from what the model makes of public rows.
    ///
    /// # Errors
    /// Weights that do not fit the specification; rows that vary too little.
    pub fn first_values(&self, spec: &AdapterSpec, init: Init) -> Result<FirstValues, LearnerError> {
        let mut first = spec.first_values(&|module| self.model.frozen_weight(module))?;
        if let Some(public) = self.public.as_ref().filter(|_| init.needs_data()) {
            first.extend(public.directions(&*self.model, spec)?);
        }
        Ok(first)
    }
}
