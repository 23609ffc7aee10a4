//! What needs no coordinator: describing a model, training alone, testing an adapter.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterError, ClientId, Directive, Factors, HeadPolicy, LayerNumbers, ModelDescription, ModuleName,
    ModulePatterns, PeftOptions, RoundId, RoundPlan, Seed, read_peft, write_peft,
};
use fedlora_learner::{
    Evaluation, EvaluationPlan, ExactMatch, Job, LearnerError, LocalTrainer, Questions, Trainer, selected_modules,
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, CliError, DescribeArgs, EvaluateArgs, JobArgs, TrainLocalArgs};
use crate::{
    Site,
    config::{ConfigError, JobConfig, LoraConfig},
    files,
    site::{Share, SiteError},
};

/// Whoever trains alone is the first client of a federation of one.
const ALONE: ClientId = ClientId(0);

/// PEFT's `lora_alpha` where a file does not say it.
const PEFT_ALPHA: f64 = 8.0;

/// Everything is trained, nothing travels.
const LOCAL: Directive =
    Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Shared };

/// Makes all work run on this many threads; 0 for one a core.
pub(super) fn threads(threads: usize) -> Result<(), CliError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|source| CliError::Threads { threads, source })
}

/// A site with its model, and the labels that decide the numbers.
struct Opened {
    config: JobConfig,
    site: Site,
    labels: Vec<String>,
}

fn open(args: &JobArgs) -> Result<Opened, CliError> {
    let config = JobConfig::load(&args.config, &args.set)?;
    threads(args.threads)?;
    let device = super::devices::open(&args.device).map_err(CliError::Device)?;
    let site = Site::load(config.site.clone(), Seed(config.seed), &device)?;
    if config.exact_match.is_some() && site.tokenizer().is_none() {
        return Err(LearnerError::NotADecoder.into());
    }
    let labels = if args.labels.is_empty() { site.own_labels()? } else { args.labels.clone() };
    Ok(Opened { config, site, labels })
}

pub(super) fn describe(args: &DescribeArgs) -> Result<Answer, CliError> {
    let Opened { config, site, labels } = open(&args.job)?;
    let PeftOptions { base_model, task_type, .. } = site.base().peft(0.0);
    let modules = selected_modules(&**site.model(), &config.lora.selection())?;
    let head = site.model().head_spec(labels.len());
    let spec = config.lora.spec(&**site.model(), labels.len(), config.seed)?;
    let first_values = site.first_values(&spec, config.lora.eva(), Seed(config.seed))?;
    let digest = site.digest();
    let description = ModelDescription { base_model, task_type, digest, modules, head, labels, first_values };
    let json = serde_json::to_vec_pretty(&description).map_err(|error| CliError::Output(error.into()))?;
    files::write_atomically(&args.out, &json)?;
    let text = format!(
        "model      {} ({} modules, {} labels)\ndigest     {}\nwritten    {}",
        description.base_model,
        description.modules.len(),
        description.labels.len(),
        description.digest.to_hex(),
        args.out.display()
    );
    Ok(Answer::new(text, json!(description)))
}

pub(super) fn train(args: &TrainLocalArgs) -> Result<Answer, CliError> {
    let Opened { config, site, labels } = open(&args.job)?;
    if config.local.privacy.is_some() {
        let reason = "is for federations, where a ledger keeps the books; training alone releases nothing by itself";
        return Err(ConfigError::invalid("privacy", reason).into());
    }
    let share = site.share(Seed(config.seed), ALONE, &labels)?;
    let spec = config.lora.spec(&**site.model(), labels.len(), config.seed)?;
    let weight = |module: &ModuleName| site.model().frozen_weight(module);
    let start = Adapter::initial_over(spec, Seed(config.seed), &weight)?;
    let plan = RoundPlan {
        run: "local".to_owned(),
        round: RoundId(1),
        num_rounds: 1,
        directive: LOCAL,
        spec: start.spec().digest(),
        base: start.digest(),
        seed: config.seed,
        local: config.local.clone(),
    };
    let shards = Arc::new(BTreeMap::from([(ALONE, share.rows.clone())]));
    let mut trainer = LocalTrainer::new(Arc::clone(site.model()), Arc::clone(&share.train), shards)?
        .with_micro_batch_size(config.micro_batch_size)
        .with_gradient_checkpointing(config.gradient_checkpointing);
    let outcome = trainer.train(&[Job { client: ALONE, plan: Arc::new(plan), start }]).pop();
    let outcome = outcome.ok_or(SiteError::NoResult)??;
    write_peft(&args.out, &outcome.adapter, &site.base().peft(config.lora.lora_dropout))?;
    let evaluation = test(&site, &share, &outcome.adapter, config.exact_match)?;
    let mut text = format!(
        "trained    {} examples, {} steps, mean loss {:.4}\nadapter    {}\n",
        outcome.examples,
        outcome.steps,
        outcome.train_loss,
        args.out.display()
    );
    text += &left_out(&share);
    text += &evaluation.map(|found| line(&found)).unwrap_or_default();
    let data = json!({
        "adapter": args.out,
        "examples": outcome.examples,
        "left_out": share.left_out,
        "steps": outcome.steps,
        "train_loss": outcome.train_loss,
        "evaluation": evaluation,
    });
    Ok(Answer::new(text, data))
}

pub(super) fn evaluate(args: &EvaluateArgs) -> Result<Answer, CliError> {
    let Opened { config, site, labels } = open(&args.job)?;
    let share = site.share(Seed(config.seed), ALONE, &labels)?;
    let (lora, seed) = written(&args.adapter)?;
    let spec = lora.spec(&**site.model(), labels.len(), seed)?;
    let adapter = read_peft(&args.adapter, &spec, &Adapter::zeros(Arc::clone(&spec))?)?;
    let evaluation = test(&site, &share, &adapter, config.exact_match)?;
    let evaluation = evaluation.ok_or(LearnerError::NoExamples)?;
    let text = format!("{}{}", left_out(&share), line(&evaluation));
    let data = json!({ "adapter": args.adapter, "left_out": share.left_out, "evaluation": evaluation });
    Ok(Answer::new(text, data))
}

/// The site's test rows; none where it holds none out.
fn test(
    site: &Site,
    share: &Share,
    adapter: &Adapter,
    exact_match: Option<ExactMatch>,
) -> Result<Option<Evaluation>, CliError> {
    let rows: Vec<u32> = (0..share.test.len() as u32).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let mut plan = EvaluationPlan::new(&share.test, &rows)?;
    if let Some(settings) = exact_match {
        let tokenizer = site.tokenizer().ok_or(LearnerError::NotADecoder)?;
        plan = plan.asking(Questions::new(&share.test, &rows, tokenizer, settings)?);
    }
    Ok(Some(plan.evaluate(&**site.model(), adapter)?))
}

fn line(found: &Evaluation) -> String {
    let Evaluation { examples, tokens, loss, accuracy, macro_f1, perplexity, exact_match } = found;
    let tokens = tokens.map(|tokens| format!(" ({tokens} tokens)")).unwrap_or_default();
    let perplexity = perplexity.map(|perplexity| format!("perplexity {perplexity:.3}, ")).unwrap_or_default();
    let macro_f1 = macro_f1.map(|macro_f1| format!(", macro F1 {macro_f1:.4}")).unwrap_or_default();
    let exact_match = exact_match.map(|share| format!(", exact match {share:.4}")).unwrap_or_default();
    format!(
        "tested     {examples} examples{tokens}: {perplexity}accuracy {accuracy:.4}, loss {loss:.4}{macro_f1}{exact_match}"
    )
}

/// Says that rows were left out, if any were.
fn left_out(share: &Share) -> String {
    match share.left_out {
        0 => String::new(),
        rows => {
            format!("left out   {rows} (prompts leave no room for a response in data.max-length tokens)\n")
        }
    }
}

/// The keys of `adapter_config.json` that a specification follows from, and VeRA's seed; the rest is checked when the
/// adapter is read.
fn written(folder: &Path) -> Result<(LoraConfig, u64), CliError> {
    #[derive(Deserialize)]
    struct File {
        peft_type: Option<String>,
        r: usize,
        lora_alpha: Option<f64>,
        #[serde(default)]
        use_rslora: bool,
        #[serde(default)]
        use_dora: bool,
        init_lora_weights: Option<serde_json::Value>,
        target_modules: ModulePatterns,
        exclude_modules: Option<ModulePatterns>,
        layers_to_transform: Option<LayerNumbers>,
        layers_pattern: Option<ModulePatterns>,
        #[serde(default)]
        projection_prng_key: u64,
    }
    let path = folder.join("adapter_config.json");
    let json = fs::read(&path).map_err(|source| AdapterError::Io { path: path.clone(), source })?;
    let file: File = serde_json::from_slice(&json)
        .map_err(|error| AdapterError::InFile { path, source: Box::new(AdapterError::Header(error)) })?;
    let lora = LoraConfig {
        r: file.r,
        lora_alpha: file.lora_alpha.unwrap_or(PEFT_ALPHA),
        use_rslora: file.use_rslora,
        use_dora: file.use_dora,
        init_lora_weights: file.init_lora_weights.and_then(|init| Some(init.as_str()?.to_owned())),
        target_modules: file.target_modules,
        exclude_modules: file.exclude_modules,
        layers_to_transform: file.layers_to_transform,
        layers_pattern: file.layers_pattern,
        peft_type: file.peft_type,
        ..LoraConfig::default()
    };
    Ok((lora, file.projection_prng_key))
}
