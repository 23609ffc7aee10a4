//! Completions and manual pages, from the same definition as the help.

use std::{fs, path::PathBuf};

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use super::{Answer, Cli, Failure};

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  fedlora-coordinator completions bash > ~/.local/share/bash-completion/completions/fedlora-coordinator
  fedlora-coordinator completions zsh > ~/.zfunc/_fedlora-coordinator";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  fedlora-coordinator man --out /usr/local/share/man/man1";

/// Which shell.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Where to.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Folder of the pages
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::definition(), "fedlora-coordinator", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let data = json!({ "script": script });
    Answer::new(script, data)
}

pub(super) fn man(args: &ManArgs) -> Result<Answer, Failure> {
    let out = &args.out;
    let written = fs::create_dir_all(out).and_then(|()| clap_mangen::generate_to(Cli::definition(), out));
    written.map_err(|error| Failure::file("write", out, &error))?;
    let text = format!("manual pages are in {}", out.display());
    Ok(Answer::new(text, json!({ "directory": out })))
}
