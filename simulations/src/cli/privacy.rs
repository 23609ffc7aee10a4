//! A calculator for people who plan a study: what training costs, and what a budget allows.

use std::{fmt::Write, path::PathBuf};

use clap::{Args, Subcommand};
use fedlora_privacy::{AccountantKind, Epsilon, PrivacyError, SampledGaussian, calibrate};
use serde_json::json;

use super::Answer;
use crate::{SimulationError, report};

/// Questions about DP-SGD on Poisson samples, one example protected, neighbours by adding or removing one.
#[derive(Debug, Subcommand)]
pub(crate) enum PrivacyCommand {
    /// What training costs: epsilon from noise, sample rate and steps
    Epsilon {
        #[command(flatten)]
        noise: Noise,
        #[command(flatten)]
        steps: Steps,
        #[command(flatten)]
        common: Common,
    },
    /// The least noise that keeps to a target
    Sigma {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        steps: Steps,
        #[command(flatten)]
        common: Common,
    },
    /// The most steps that keep to a target
    Steps {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        noise: Noise,
        #[command(flatten)]
        common: Common,
    },
    /// Draw epsilon over the rounds of a planned run, as SVG and PNG
    Plot {
        #[command(flatten)]
        noise: Noise,
        /// Optimiser steps of a client in a round
        #[arg(long, value_name = "T")]
        local_steps: u64,
        /// Rounds that the client takes part in
        #[arg(long)]
        rounds: u64,
        #[command(flatten)]
        samples: Samples,
        /// Directory of the pictures
        #[arg(long, default_value = "privacy")]
        out: PathBuf,
    },
}

/// The noise of a step.
#[derive(Debug, Args)]
pub(crate) struct Noise {
    /// Standard deviation of the noise over the clipping norm
    #[arg(long, value_name = "S")]
    noise_multiplier: f64,
}

/// The number of steps.
#[derive(Debug, Args)]
pub(crate) struct Steps {
    /// Optimiser steps that touch a client's data, over all rounds
    #[arg(long, value_name = "T")]
    steps: u64,
}

/// A guarantee to keep to.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The epsilon to keep to
    #[arg(long, value_name = "E")]
    target_epsilon: f64,
}

/// How examples come into batches, and the `delta` of the answer.
#[derive(Debug, Args)]
pub(crate) struct Samples {
    /// Probability of an example to be in a batch: expected batch size over the client's examples
    #[arg(long, value_name = "Q")]
    sample_rate: f64,
    /// The delta of the guarantee, below one over the client's examples
    #[arg(long, value_name = "D")]
    delta: f64,
}

/// What every question but the plot needs.
#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    samples: Samples,
    /// pld is tightest; rdp is what most papers report
    #[arg(long, default_value_t = AccountantKind::Pld)]
    accountant: AccountantKind,
}

/// Answers a question.
pub(super) fn run(command: &PrivacyCommand) -> Result<Answer, SimulationError> {
    let answer = match command {
        PrivacyCommand::Epsilon { noise, steps, common } => common.answer(noise.noise_multiplier, steps.steps),
        PrivacyCommand::Sigma { target, steps, common } => {
            let budget = calibrate::Budget::new(target.target_epsilon, common.samples.delta)?;
            let accountant = common.accountant.build();
            let sigma = calibrate::noise_multiplier(&*accountant, budget, common.samples.sample_rate, steps.steps)?;
            common.answer(sigma, steps.steps)
        }
        PrivacyCommand::Steps { target, noise, common } => {
            let budget = calibrate::Budget::new(target.target_epsilon, common.samples.delta)?;
            let accountant = common.accountant.build();
            let steps = calibrate::steps(&*accountant, budget, noise.noise_multiplier, common.samples.sample_rate)?;
            common.answer(noise.noise_multiplier, steps)
        }
        PrivacyCommand::Plot { noise, local_steps, rounds, samples, out } => {
            return samples.plot(noise.noise_multiplier, *local_steps, *rounds, out);
        }
    };
    Ok(answer?)
}

impl Common {
    /// What so much noise over so many steps comes to.
    fn answer(&self, noise_multiplier: f64, steps: u64) -> Result<Answer, PrivacyError> {
        let Self { samples: Samples { sample_rate, delta }, accountant } = *self;
        let event = SampledGaussian::new(noise_multiplier, sample_rate, steps)?;
        let epsilon = accountant.build().epsilon(&[event], delta)?;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "epsilon            {epsilon:.6}\ndelta              {delta:e}");
        let _ = writeln!(text, "noise multiplier   {noise_multiplier:.6}\nsample rate        {sample_rate}");
        let _ = writeln!(text, "steps              {steps}\naccountant         {accountant}");
        text += "protects           one example, added or removed; batches are Poisson samples\n";
        let data = json!({
            "epsilon": epsilon,
            "delta": delta,
            "noise_multiplier": noise_multiplier,
            "sample_rate": sample_rate,
            "steps": steps,
            "accountant": accountant.to_string(),
        });
        Ok(Answer::new(text, data))
    }
}

impl Samples {
    fn plot(&self, noise: f64, steps: u64, rounds: u64, out: &PathBuf) -> Result<Answer, SimulationError> {
        // More points than a picture is wide show nothing more.
        let every = rounds.div_ceil(MOST_POINTS).max(1);
        let points: Vec<u64> = (0..rounds).step_by(every as usize).chain([rounds]).collect();
        let mut spent = Vec::with_capacity(points.len());
        for round in points {
            let event = SampledGaussian::new(noise, self.sample_rate, steps.saturating_mul(round))?;
            let epsilon = |kind: AccountantKind| kind.build().epsilon(&[event], self.delta);
            spent.push((round, Epsilon { pld: epsilon(AccountantKind::Pld)?, rdp: epsilon(AccountantKind::Rdp)? }));
        }
        report::write_epsilon(out, &spent, self.delta)?;
        // There is a point for the last round at least.
        let Epsilon { pld, rdp } = spent.last().map_or(Epsilon::default(), |(_, epsilon)| *epsilon);
        let shown = out.display();
        let text = format!(
            "epsilon after {rounds} rounds: {pld:.6} (pld), {rdp:.6} (rdp) at delta {:e}\n\
             plots   {shown}/plots/epsilon.svg, {shown}/plots/epsilon.png\n",
            self.delta
        );
        let row = |(round, epsilon): &(u64, Epsilon)| json!({ "round": round, "pld": epsilon.pld, "rdp": epsilon.rdp });
        Ok(Answer::new(text, json!({ "epsilon": spent.iter().map(row).collect::<Vec<_>>(), "directory": out })))
    }
}

/// Rounds for which the calculator's plot accounts one by one.
const MOST_POINTS: u64 = 100;
