//! `rounds watch`: the open round as it goes.

use std::io::{self, IsTerminal};

use fedlora_proto::operator::{RoundDetail, RunSummary, WatchRoundsRequest};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    changes::{changes, client_line, phase_line},
    number,
};
use crate::cli::{
    Answer, Failure, Format,
    answer::say,
    connect::Operator,
    failure::REFUSED,
    json,
    status::{self, run_line},
    table::printable,
};

/// Lines of clients on a terminal; a screen has no more.
const CLIENTS: usize = 16;

/// Watches until the run is over.
pub(super) async fn watch(operator: &mut Operator, format: Format) -> Result<Answer, Failure> {
    let stream = operator.watch_rounds(WatchRoundsRequest {}).await.map_err(|status| Failure::of(&status))?;
    let mut stream = stream.into_inner();
    let bars = format == Format::Text && io::stdout().is_terminal() && io::stderr().is_terminal();
    let mut view = if bars { View::Bars(Bars::new()) } else { View::Lines };
    let mut last = None;
    let live = |run: &RunSummary| ["pending", "running", "paused"].contains(&run.status.as_str());
    if format == Format::Text && !status::ask(operator).await?.run.as_ref().is_some_and(live) {
        say(&Answer::new("no run is live; waiting for one", json!(null)), format)?;
    }
    while let Some(detail) = stream.message().await.map_err(|status| Failure::of(&status))? {
        match (&mut view, format) {
            (_, Format::Json) => say(&Answer::new("", json!({ "round": json::detail(&detail) })), format)?,
            (View::Bars(bars), _) => bars.show(last.as_ref(), &detail)?,
            (View::Lines, _) => {
                for line in changes(last.as_ref(), &detail) {
                    say(&Answer::new(line, json!(null)), format)?;
                }
            }
        }
        last = Some(detail);
    }
    end(operator, last.as_ref()).await
}

/// How the run ended.
async fn end(operator: &mut Operator, last: Option<&RoundDetail>) -> Result<Answer, Failure> {
    let Some(run) = status::ask(operator).await?.run else { return Ok(Answer::said()) };
    let watched = last.and_then(|detail| detail.summary.as_ref()).is_none_or(|summary| summary.run_id == run.run_id);
    let next = if run.rounds_done > 0 { "\nnext: fedlora-coordinator export --out adapter" } else { "" };
    let mut answer = Answer::new(format!("run {}{next}", run_line(&run)), json!({ "run": json::run(&run) }));
    if watched && run.status == "failed" {
        answer.exit_code = REFUSED;
    }
    Ok(answer)
}

/// How rounds are shown.
enum View {
    /// One line a change.
    Lines,
    /// Bars that move.
    Bars(Bars),
}

/// A bar for the round and a line for each of its clients.
struct Bars {
    screen: MultiProgress,
    round: Option<ProgressBar>,
    clients: Vec<ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        Self { screen: MultiProgress::new(), round: None, clients: Vec::new() }
    }

    fn show(&mut self, before: Option<&RoundDetail>, now: &RoundDetail) -> Result<(), Failure> {
        if before.is_none_or(|before| number(before) != number(now)) || self.round.is_none() {
            self.open(now)?;
        }
        let Some(summary) = &now.summary else { return Ok(()) };
        if let Some(bar) = &self.round {
            bar.set_length(summary.invited);
            bar.set_position(summary.accepted);
            bar.set_message(printable(&summary.phase));
        }
        for (line, client) in self.clients.iter().zip(now.clients.iter().take(CLIENTS)) {
            line.set_message(printable(&client_line(client)));
        }
        if ["published", "failed"].contains(&summary.phase.as_str()) {
            self.close();
            let line = Answer::new(printable(&phase_line(summary)), json!(null));
            self.screen.suspend(|| say(&line, Format::Text))?;
        }
        Ok(())
    }

    fn open(&mut self, detail: &RoundDetail) -> Result<(), Failure> {
        self.close();
        let style = |template: &str| {
            ProgressStyle::with_template(template).map_err(|error| Failure::files(format!("progress: {error}")))
        };
        let invited = detail.summary.as_ref().map_or(0, |summary| summary.invited);
        let bar = ProgressBar::new(invited).with_style(style("{prefix} [{bar:30}] {pos}/{len} {msg}")?);
        let round = self.screen.add(bar);
        round.set_prefix(format!("round {}", number(detail)));
        self.round = Some(round);
        for _ in detail.clients.iter().take(CLIENTS) {
            self.clients.push(self.screen.add(ProgressBar::new(0).with_style(style("  {msg}")?)));
        }
        if let Some(more) = detail.clients.len().checked_sub(CLIENTS).filter(|&more| more > 0) {
            let line = self.screen.add(ProgressBar::new(0).with_style(style("  {msg}")?));
            line.set_message(format!("and {more} more"));
            self.clients.push(line);
        }
        Ok(())
    }

    fn close(&mut self) {
        let bars = self.round.take().into_iter().chain(self.clients.drain(..));
        bars.for_each(|bar| bar.finish_and_clear());
    }
}
