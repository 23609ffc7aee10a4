//! What makes a run's configuration valid beyond the types of its keys.

use fedlora_aggregation::Weighting;

use super::{ConfigError, RunConfig};

impl RunConfig {
    /// Checks what single fields cannot say.
    ///
    /// # Errors
    /// The first key whose value makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let unit = |key, value: f64| {
            let ok = (0.0..1.0).contains(&value);
            ok.then_some(()).ok_or(ConfigError::invalid(key, "must be at least 0 and below 1"))
        };
        let not_negative = |key, value: f64| {
            let ok = value.is_finite() && value >= 0.0;
            ok.then_some(()).ok_or(ConfigError::invalid(key, "must be a number of at least 0"))
        };
        let at_least_one =
            |key, value: u64| (value > 0).then_some(()).ok_or(ConfigError::invalid(key, "must be at least 1"));
        at_least_one("num-rounds", self.num_rounds)?;
        at_least_one("batch-size", self.batch_size as u64)?;
        at_least_one("lora.r", self.lora.r as u64)?;
        if self.clients_per_round == Some(0) {
            return Err(ConfigError::invalid("clients-per-round", "must be at least 1"));
        }
        if !(self.fraction_train > 0.0 && self.fraction_train <= 1.0) {
            return Err(ConfigError::invalid("fraction-train", "must be above 0 and at most 1"));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(ConfigError::invalid("learning-rate", "must be a number above 0"));
        }
        if !(self.lora.lora_alpha.is_finite() && self.lora.lora_alpha > 0.0) {
            return Err(ConfigError::invalid("lora.lora_alpha", "must be a number above 0"));
        }
        if !(self.lora.loraplus_lr_ratio.is_finite() && self.lora.loraplus_lr_ratio > 0.0) {
            return Err(ConfigError::invalid("lora.loraplus_lr_ratio", "must be a number above 0"));
        }
        unit("momentum", self.momentum)?;
        unit("warmup-ratio", self.warmup_ratio)?;
        unit("lora.lora_dropout", self.lora.lora_dropout)?;
        not_negative("weight-decay", self.weight_decay)?;
        not_negative("max-grad-norm", self.max_grad_norm)?;
        not_negative("proximal-mu", self.proximal_mu)?;
        not_negative("over-sample", self.over_sample)?;
        self.validate_privacy()?;
        self.validate_central()?;
        self.adapter_kind()?;
        if self.init()?.needs_data() != self.lora.eva_config.is_some() {
            let reason =
                "is for init_lora_weights = \"eva\", which needs it: it names the public rows to look at, as in [data]";
            return Err(ConfigError::invalid("lora.eva_config", reason));
        }
        let strategy = self.strategy()?;
        // Where this key leaves the number open, whoever knows the clients checks it.
        self.clients_per_round.map_or(Ok(()), |clients| strategy.check_count(clients))?;
        self.local().map(|_| ())
    }

    /// What private training excludes.
    fn validate_privacy(&self) -> Result<(), ConfigError> {
        if self.privacy.is_none() {
            return Ok(());
        }
        if self.weighting == Weighting::Examples {
            let reason = "tells everybody the clients' numbers of examples, which [privacy] protects: use \"uniform\"";
            return Err(ConfigError::invalid("weighting", reason));
        }
        if self.local_steps.is_none() {
            let reason = "is needed with [privacy]: steps counted in epochs tell the clients' numbers of examples";
            return Err(ConfigError::invalid("local-steps", reason));
        }
        if self.max_grad_norm > 0.0 {
            let reason = "clips the noise too: [privacy] has a max-grad-norm for each example";
            return Err(ConfigError::invalid("max-grad-norm", reason));
        }
        Ok(())
    }
}
