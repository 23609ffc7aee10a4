//! `log`: what happened, one line an event.

use clap::Args;
use fedlora_proto::operator::{Event, EventsRequest};
use serde_json::json;

use super::{Answer, Failure, Format, answer::say, connect::Operator, json, table::printable, words};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator log
  fedlora-coordinator log --follow
  fedlora-coordinator log --follow --format json | jq -r .data.event.kind";

/// Which events.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Only events after this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Go on as they happen
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run(args: &LogArgs, operator: &mut Operator, format: Format) -> Result<Answer, Failure> {
    let request = EventsRequest { after: args.after, follow: args.follow };
    let stream = operator.events(request).await.map_err(|status| Failure::of(&status))?;
    let mut stream = stream.into_inner();
    let mut events = Vec::new();
    let mut any = false;
    while let Some(event) = stream.message().await.map_err(|status| Failure::of(&status))? {
        any = true;
        // People read each at once; machines get one object, unless it would never come.
        match (format, args.follow) {
            (Format::Json, false) => events.push(json::event(&event)),
            _ => say(&Answer::new(line(&event), json!({ "event": json::event(&event) })), format)?,
        }
    }
    if format == Format::Json && !args.follow {
        return Ok(Answer::new("", json!({ "events": events })));
    }
    let text = if any || args.follow { "" } else { "no events" };
    Ok(Answer::new(text, json!(null)))
}

/// An event in one line.
fn line(event: &Event) -> String {
    let some = |word: &str, number: u64| if number == 0 { String::new() } else { format!(" {word}={number}") };
    let client = event.client_id.map(|client| format!(" client={client}")).unwrap_or_default();
    let detail = if event.detail.is_empty() { String::new() } else { format!(" {}", event.detail) };
    let (run, round) = (some("run", event.run_id), some("round", event.round));
    printable(&format!("{} #{} {}{run}{round}{client}{detail}", words::time(event.time_ms), event.number, event.kind))
}
