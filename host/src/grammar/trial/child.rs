//! The process that tries grammars out.

use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, channel},
    },
    thread,
};

use llguidance::{ParserFactory, toktrie::InferenceCapabilities};
use rustix::process::Resource;
use toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};

use super::{
    super::{
        compile::{begin, slices},
        matcher::STACK_BYTES as SERVER_STACK_BYTES,
    },
    CompileReply, CompileRequest, Tokens,
};
use crate::{
    shutdown::exit_now,
    system::{memory, niceness::give_way, resource_limits},
};

/// Most address space, in bytes, whether used or not. The server needs as much again for a grammar that is accepted.
const MEMORY_BYTES: u64 = 1 << 30;
/// Half of the stack that compiling has in the server, so that what fits here fits there.
const STACK_BYTES: usize = SERVER_STACK_BYTES / 2;

/// Answers requests until the server closes the standard input or ends.
///
/// # Errors
/// If the input cannot be read, or no thread can be started.
pub fn run() -> io::Result<()> {
    hold_to_limits();
    let (sender, requests) = channel();
    let thread = thread::Builder::new().stack_size(STACK_BYTES);
    thread.spawn(move || {
        // The server is gone.
        let _ = answer_all(&requests);
        exit_now(1);
    })?;
    for line in io::stdin().lines() {
        // The receiver lives as long as the process.
        let _ = sender.send(line?);
    }
    // Nobody waits for a grammar that is still being compiled.
    exit_now(0)
}

/// Limits memory and priority. If a limit cannot be set, the time limit still bounds what a grammar costs.
fn hold_to_limits() {
    let _ = resource_limits::lower(Resource::As, MEMORY_BYTES);
    let _ = resource_limits::no_core_dump();
    give_way();
}

fn answer_all(requests: &Receiver<String>) -> io::Result<()> {
    let mut factory = None;
    for request in requests {
        let reply = catch_unwind(AssertUnwindSafe(|| reply(&request, &mut factory)));
        let reply = reply.unwrap_or_else(|_| Err("compiling it failed".to_owned()));
        let reply = reply.map_or_else(CompileReply::Refused, |bytes| CompileReply::Compiled {
            bytes,
        });
        let mut reply = serde_json::to_vec(&reply)?;
        reply.push(b'\n');
        io::stdout().write_all(&reply)?;
        memory::give_back();
    }
    Ok(())
}

/// Compiles a request's grammar. Returns its approximate size in memory.
fn reply(request: &str, factory: &mut Option<ParserFactory>) -> Result<usize, String> {
    let request: CompileRequest =
        serde_json::from_str(request).map_err(|error| format!("it cannot be read: {error}"))?;
    if let Some(tokens) = request.tokens {
        *factory = Some(factory_of(&tokens).map_err(|error| error.to_string())?);
    }
    let factory = factory.as_mut().ok_or("it has no tokens")?;
    *factory.limits_mut() = request.limits.into_owned();
    let before = memory::in_use_bytes();
    let parser = factory.create_parser(request.grammar.into_owned());
    let parser = parser.map_err(|error| format!("{error:#}"))?;
    // The result does not matter: whether any text fits depends on tokens that only the server knows. The first mask is
    // computed here because it takes time and memory.
    let _matcher = begin(parser, &OnceLock::new());
    // The process has at most 1 GiB, so this is never more than a signed number holds.
    let grown = memory::in_use_bytes().wrapping_sub(before).cast_signed();
    Ok(usize::try_from(grown).unwrap_or(0))
}

/// Makes a parser factory for a vocabulary in which each byte is a token. That is enough to compute the first mask.
fn factory_of(tokens: &Tokens) -> anyhow::Result<ParserFactory> {
    let mut words = vec![Vec::new(); tokens.count as usize];
    for (&token, word) in &tokens.control {
        if let Some(place) = words.get_mut(token as usize) {
            place.clone_from(word);
        }
    }
    let free = words.iter_mut().filter(|word| word.is_empty());
    for (byte, word) in (0..=u8::MAX).zip(free) {
        word.push(byte);
    }
    let info = TokRxInfo::new(tokens.count, INVALID_TOKEN);
    let environment = ApproximateTokEnv::new(TokTrie::from(&info, &words));
    let environment: TokEnv = Arc::new(environment);
    let capabilities = InferenceCapabilities::default();
    let mut factory = ParserFactory::new(&environment, capabilities, &slices())?;
    factory.quiet();
    Ok(factory)
}
