//! Waiting for other processes: for what they say and for their end, but never for ever.

#![expect(clippy::disallowed_methods, reason = "the one place of these tests that looks at a clock")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ExitStatus},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use wait_timeout::ChildExt as _;

/// Longest time that anything in these tests may take before it counts as hung.
const LIMIT: Duration = Duration::from_mins(2);

/// What a process says, line by line, as it says it.
#[derive(Debug)]
pub(super) struct Lines(Receiver<String>);

impl Lines {
    /// Lines of a process's output, each of which goes to a file too. They are read to the end, whoever listens.
    pub(super) fn of(output: impl Read + Send + 'static, mut copy: impl Write + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                writeln!(copy, "{line}").expect("the copy can be written");
                // Nobody may be listening any more.
                let _ = sender.send(line);
            }
        });
        Self(lines)
    }

    /// The first thing that `find` finds in a line, and how long that took.
    pub(super) fn until<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> (T, Duration) {
        let begin = Instant::now();
        loop {
            let line = self.0.recv_timeout(LIMIT.saturating_sub(begin.elapsed()));
            let line = line.unwrap_or_else(|error| panic!("{what}: {error}"));
            if let Some(found) = find(&line) {
                return (found, begin.elapsed());
            }
        }
    }
}

/// Waits for the end of a process.
pub(super) fn end_of(process: &mut Child) -> ExitStatus {
    process.wait_timeout(LIMIT).expect("it can be waited for").expect("the process does not end")
}

/// Lets some time pass in which anything may happen: how much is a test's random input, and nothing rests on its being enough.
pub(super) fn pass(time: Duration) {
    thread::sleep(time);
}
