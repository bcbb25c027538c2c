//! Runs each case in a process of its own, because DPDK starts once in a process.
//!
//! The test binary calls itself with the case's name in the environment. A case passes when its process
//! ends with status 0; it may be driven from the outside meanwhile, by a second function.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// One case: its name, what its process does, and what is done to the process from outside.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) inside: fn(),
    pub(crate) outside: fn(&mut Running),
}

/// A case that needs nothing from outside.
pub(crate) const fn alone(name: &'static str, inside: fn()) -> Case {
    Case { name, inside, outside: |_| () }
}

/// A case's process, as seen from outside.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

impl Running {
    /// Waits until the case says this on a line of its own.
    pub(crate) fn wait_for(&mut self, word: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.trim() == word;
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(e) => panic!("never said `{word}` ({e}), but: {:#?}", self.seen),
            }
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and not yet waited for, so the number is its own.
        let sent = unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), signal) };
        assert_eq!(sent, 0);
    }
}

const CHILD: &str = "CAUSEWAY_TEST_CASE";

/// The main function of such a test. Understands a filter and `--list`, as cargo's own do.
pub(crate) fn run(cases: &[Case]) -> ExitCode {
    if let Ok(name) = std::env::var(CHILD) {
        let case = cases.iter().find(|c| c.name == name).expect("the case is in the list");
        (case.inside)();
        return ExitCode::SUCCESS;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--list") {
        cases.iter().for_each(|c| println!("{}: test", c.name));
        return ExitCode::SUCCESS;
    }
    let exact = args.iter().any(|a| a == "--exact");
    let wanted = |case: &Case| {
        let mut filters = args.iter().filter(|a| !a.starts_with('-')).peekable();
        filters.peek().is_none()
            || filters.any(|f| if exact { case.name == f } else { case.name.contains(f.as_str()) })
    };
    let mut failed = 0;
    for case in cases.iter().filter(|case| wanted(case)) {
        let began = Instant::now();
        match one(case) {
            Ok(()) => println!("test {} ... ok ({:.1} s)", case.name, began.elapsed().as_secs_f32()),
            Err(why) => {
                failed += 1;
                println!("test {} ... FAILED\n{why}", case.name);
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(case: &Case) -> Result<(), String> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .env(CHILD, case.name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts itself");
    let (to, lines) = channel();
    let streams: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for stream in streams {
        let to = to.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = to.send(line);
            }
        });
    }
    drop(to);
    let mut running = Running { child, lines, seen: Vec::new() };
    let driven = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (case.outside)(&mut running)));
    let end = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match running.child.try_wait().expect("it can be waited for") {
            Some(status) => break Some(status),
            None if Instant::now() > end || driven.is_err() => {
                let _ = running.child.kill();
                let _ = running.child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    running.seen.extend(running.lines.iter());
    match status {
        Some(status) if status.success() && driven.is_ok() => Ok(()),
        Some(status) => Err(format!("{status}\n{}", running.seen.join("\n"))),
        None => Err(format!("it did not end, and was killed\n{}", running.seen.join("\n"))),
    }
}
