//! The state that a coordinator is started over: an authority, enrolled clients and a run that waits for all of them.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use fedlora_adapter::{Adapter, Digest, ModuleName, ModuleSpec};
use fedlora_coordinator::{
    Clock, Command, Engine, EngineSettings, ModelDescription, Registry, Role, SystemClock,
    config::RunConfig,
    identity::pki::{PkiPaths, init_pki},
};
use fedlora_proto::operator::CreateTokenRequest;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;

/// Name in the coordinator's certificate.
pub(crate) const HOST: &str = "coordinator.test";
/// Rank of the adapter and width of its modules: those of one layer of a larger language model.
const RANK: usize = 16;
const WIDTH: usize = 4096;
/// Bytes of one module: two factors of four-byte values.
pub(crate) const MODULE_BYTES: u64 = (2 * RANK * WIDTH * 4) as u64;

/// A coordinator's state, and who may connect to it.
pub(crate) struct World {
    pub(crate) state: TempDir,
    pub(crate) clients: Vec<Arc<ClientConfig>>,
    /// The adapter that every client begins with.
    pub(crate) global: Arc<Adapter>,
}

impl World {
    /// `clients` enrolled clients, and a run of one round with an adapter of about `bytes` that begins when all are there.
    pub(crate) fn new(clients: u64, bytes: u64) -> Self {
        Self::of_rounds(1, clients, bytes)
    }

    /// The same with a run of several rounds.
    pub(crate) fn of_rounds(rounds: u64, clients: u64, bytes: u64) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        let clients_configs = enrol(clients, state.path());
        let global = begin_run(state.path(), rounds, clients, bytes.div_ceil(MODULE_BYTES));
        Self { state, clients: clients_configs, global }
    }
}

/// Enrols clients `0..clients`. Each one waits for the disk twice, so it happens in memory where the system has a folder
/// there, and the outcome is copied.
fn enrol(clients: u64, state: &Path) -> Vec<Arc<ClientConfig>> {
    let memory = Path::new("/dev/shm");
    let quick = tempfile::tempdir_in(if memory.is_dir() { memory } else { state }).expect("a temporary folder");
    let now = SystemClock::new().now();
    let paths = init_pki(&quick.path().join("pki"), &[HOST.to_owned()], now).expect("an authority");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&paths.ca).expect("PEM")).expect("an authority");
    let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
    let registry = Registry::open(quick.path()).expect("a register");
    let configs = (0..clients).map(|client| {
        let role = Role::Client.as_str().to_owned();
        let name = format!("site-{client}");
        let token = CreateTokenRequest { name, role, ttl_ms: 60_000, client_id: Some(client), ..Default::default() };
        let (_, token) = registry.create_token(token, now).expect("a token");
        let key = KeyPair::generate().expect("a key");
        let request = CertificateParams::default().serialize_request(&key).expect("a request").pem().expect("PEM");
        let issued = registry.enrol(&token, &request, now).expect("enrolled");
        let certificate = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("PEM");
        Arc::new(client_config(&provider, &roots, certificate, &key))
    });
    let configs = configs.collect();
    drop(registry);
    fs::create_dir(state.join("pki")).expect("a writable folder");
    let register = quick.path().join("identity.redb");
    for path in PkiPaths::of_state(quick.path()).all().into_iter().chain([register.as_path()]) {
        let name = path.strip_prefix(quick.path()).expect("of this folder");
        fs::copy(path, state.join(name)).expect("a writable folder");
    }
    configs
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    certificate: CertificateDer<'static>,
    key: &KeyPair,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(Arc::clone(roots));
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = builder.with_client_auth_cert(vec![certificate], key).expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A client that connects once has no use for tickets.
    config.resumption = Resumption::disabled();
    config
}

pub(crate) fn base_model() -> Digest {
    Digest::of(b"base model")
}

/// Begins a run as an operator does, before the program is started.
fn begin_run(state: &Path, rounds: u64, clients: u64, modules: u64) -> Arc<Adapter> {
    let module = ModuleSpec::new(WIDTH, WIDTH);
    let model = ModelDescription {
        base_model: "nobody/loads-it".to_owned(),
        task_type: None,
        digest: base_model(),
        modules: (0..modules).map(|layer| (ModuleName::new(format!("layer.{layer}.query")), module)).collect(),
        head: BTreeMap::new(),
        labels: Vec::new(),
        first_values: BTreeMap::new(),
    };
    let text = format!(
        "num-rounds = {rounds}\nlearning-rate = 0.01\nlocal-steps = 1\nmin-available-clients = {clients}\n\
         method.name = 'fedavg'\nlora.r = {RANK}\n"
    );
    let config = RunConfig::take(&mut text.parse().expect("TOML")).expect("a configuration");
    let now = SystemClock::new().now();
    let mut engine = Engine::open(state, EngineSettings::default(), now).expect("a writable state");
    let command = Command::StartRun { config: Box::new(config), model: Box::new(model), key: String::new() };
    engine.handle(command, now).expect("begun");
    engine.view().global.expect("a run has an adapter")
}
