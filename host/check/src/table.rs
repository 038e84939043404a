//! The table of cases.

use crate::{
    cases::{
        embedder, estimate, file, forward, info, init, levels, load, open, random_operations,
        sample, sequences, session, set_threads, steady, supports, tokenizer,
    },
    finding::Checked,
    subject::Subject,
};

/// A promise of plugins, and the function that tests it.
pub struct Case {
    /// `group/what`. Names never change their meaning.
    pub name: &'static str,
    /// Whether the case is skipped without a model.
    pub needs_model: bool,
    /// The promise.
    pub proves: &'static str,
    pub run: fn(&Subject) -> Checked,
}

impl Case {
    /// The part of the name before the slash.
    pub fn group(&self) -> &'static str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// A case for every plugin.
const fn plugin(name: &'static str, proves: &'static str, run: fn(&Subject) -> Checked) -> Case {
    Case {
        name,
        needs_model: false,
        proves,
        run,
    }
}

/// A case that needs a model.
const fn model(name: &'static str, proves: &'static str, run: fn(&Subject) -> Checked) -> Case {
    Case {
        name,
        needs_model: true,
        proves,
        run,
    }
}

/// All cases, in the order in which they are run.
pub const CASES: &[Case] = &[
    plugin(
        "file/whole",
        "the file is a complete library for this machine",
        file::whole,
    ),
    plugin(
        "file/exports-loader-only",
        "the library exports what the server looks for, and nothing else",
        file::exports_loader_only,
    ),
    plugin(
        "file/no-static-tls",
        "the library can be loaded at any time: it takes none of the little static room for thread-locals",
        file::no_static_tls,
    ),
    plugin(
        "file/no-shared-ggml",
        "the library has its own copy of what a process has only once",
        file::no_shared_ggml,
    ),
    plugin(
        "open/abi-agrees",
        "the library opens, and its ABI is one that this server takes",
        open::abi_agrees,
    ),
    plugin(
        "open/unwinds",
        "a panic in the plugin is an error, and not the end of the process",
        open::unwinds,
    ),
    plugin(
        "open/scan-time",
        "the server finds out quickly what the plugin is",
        open::scan_time,
    ),
    plugin(
        "open/id-valid",
        "the plugin's id is a reverse URI",
        open::id_valid,
    ),
    plugin(
        "init/starts",
        "the backend starts without options",
        init::starts,
    ),
    plugin(
        "init/unknown-option-named",
        "an option that does not exist is refused, and named",
        init::unknown_option_named,
    ),
    plugin(
        "init/schema-matches",
        "the schema of the options is valid, and its defaults are accepted",
        init::schema_matches,
    ),
    plugin(
        "init/threads-as-told",
        "the plugin has no more threads than the server told it",
        init::threads_as_told,
    ),
    plugin(
        "supports/missing-is-no",
        "a path that does not exist is not supported",
        supports::missing_is_no,
    ),
    plugin(
        "supports/garbage",
        "files of noise get an answer",
        supports::garbage,
    ),
    model(
        "supports/truncated-header",
        "files whose header is cut off get an answer",
        supports::truncated_header,
    ),
    model(
        "supports/header-only",
        "no more than a header is read",
        supports::header_only,
    ),
    model(
        "estimate/near-measured",
        "the estimated memory is near what is used",
        estimate::near_measured,
    ),
    plugin(
        "load/missing-io",
        "a path that does not exist cannot be loaded, and is named",
        load::missing_io,
    ),
    model(
        "load/truncated-invalid",
        "a file that is cut off cannot be loaded",
        load::truncated_invalid,
    ),
    model(
        "load/unknown-device",
        "a device that does not exist is refused, and named",
        load::unknown_device,
    ),
    model(
        "load/cancel-each-report",
        "loading stops at each of its reports if it is asked to",
        load::cancel_each_report,
    ),
    model(
        "load/twice",
        "a model can be loaded twice at the same time",
        load::twice,
    ),
    model(
        "load/memory-returns",
        "the memory of a dropped model comes back",
        load::memory_returns,
    ),
    model(
        "info/consistent",
        "the model loads, and its facts fit each other",
        info::consistent,
    ),
    model(
        "tokenizer/vocabulary-complete",
        "every token has bytes and a kind",
        tokenizer::vocabulary_complete,
    ),
    model(
        "tokenizer/bytes-roundtrip",
        "the bytes of a text's tokens are the text",
        tokenizer::bytes_roundtrip,
    ),
    model(
        "tokenizer/control-only-when-asked",
        "text becomes a control token only with PARSE_CONTROL",
        tokenizer::control_only_when_asked,
    ),
    model(
        "tokenizer/canonical-if-claimed",
        "with CANONICAL_TOKENIZER, the tokens of a continuation are exactly its text",
        tokenizer::canonical_if_claimed,
    ),
    model(
        "tokenizer/concurrent-with-forward",
        "texts are encoded by several threads while the session computes",
        tokenizer::concurrent_with_forward,
    ),
    model(
        "tokenizer/outlives-model",
        "a tokenizer works after its model is dropped",
        tokenizer::outlives_model,
    ),
    model(
        "session/grants-in-bounds",
        "a session can use all that it grants",
        session::grants_in_bounds,
    ),
    model(
        "session/outlives-model",
        "a session works after its model is dropped",
        session::outlives_model,
    ),
    model(
        "session/random-operations",
        "any order of operations leaves sequences that continue as if computed anew",
        random_operations::random_operations,
    ),
    model(
        "session/kv-stats",
        "the reported use of the pool is that of the sequences, and shared tokens count once",
        session::kv_stats,
    ),
    model(
        "forward/batch-equals-alone",
        "sequences give the same rows in a batch as alone",
        forward::batch_equals_alone,
    ),
    model(
        "forward/chunks-equal-whole",
        "a prompt gives the same rows in chunks as in one piece",
        forward::chunks_equal_whole,
    ),
    model(
        "forward/rows-in-order",
        "rows are numbered in the order of the spans, and are those of their span",
        forward::rows_in_order,
    ),
    model(
        "forward/bad-start",
        "a span that does not begin where its sequence ends is refused with BAD_POSITION, and changes nothing",
        forward::bad_start,
    ),
    model(
        "forward/full-pool-changes-nothing",
        "a span without room is refused with NO_KV_SPACE, and changes nothing",
        forward::full_pool_changes_nothing,
    ),
    model(
        "forward/failure-isolated",
        "a span that is refused does not affect the others",
        forward::failure_isolated,
    ),
    model(
        "forward/unknown-flag-refused",
        "a span with a flag of a later version is refused with UNSUPPORTED",
        forward::unknown_flag_refused,
    ),
    model(
        "forward/reserved-zero",
        "reserved words of answers are zero",
        forward::reserved_zero,
    ),
    model(
        "forward/interrupt-changes-nothing",
        "an interrupted forward changes nothing",
        forward::interrupt_changes_nothing,
    ),
    model(
        "sample/matches-reference",
        "tokens are picked as by the SDK's sampler",
        sample::matches_reference,
    ),
    model(
        "sample/seed-in-a-crowd",
        "a request gets the same token alone and among others",
        sample::seed_in_a_crowd,
    ),
    model(
        "sample/empty-mask",
        "a mask without a token fails its request only",
        sample::empty_mask,
    ),
    model(
        "sample/forced-scored",
        "a forced token is returned with its own log-probability",
        sample::forced_scored,
    ),
    model(
        "sample/top-sorted",
        "the most likely tokens come in their order",
        sample::top_sorted,
    ),
    model(
        "sample/padding-never-picked",
        "no token is picked that is not below `vocab_size`",
        sample::padding_never_picked,
    ),
    model(
        "fork/continues-like-source",
        "a fork continues like the sequence that it was made of",
        sequences::fork_continues,
    ),
    model(
        "fork/isolated",
        "a change of a sequence does not show in its fork, nor the reverse",
        sequences::fork_isolated,
    ),
    model(
        "fork/refuses-non-empty",
        "a sequence that stores something is not the target of a fork",
        sequences::fork_refuses,
    ),
    model(
        "truncate/then-same",
        "a truncated sequence continues as if it had never been longer",
        sequences::truncate_then_same,
    ),
    model(
        "truncate/beyond-rollback-refused",
        "what `max_rollback` does not allow is refused, and changes nothing",
        sequences::truncate_refuses,
    ),
    model(
        "free/idempotent",
        "an empty sequence can be freed",
        sequences::free_idempotent,
    ),
    model(
        "free/id-reuse-clean",
        "a freed sequence leaves nothing to the next one of its id",
        sequences::free_id_reuse,
    ),
    model(
        "set_threads/same-result",
        "the number of threads does not change the rows",
        set_threads::same_result,
    ),
    model(
        "set_threads/zero-refused",
        "no threads are refused",
        set_threads::zero_refused,
    ),
    model(
        "requantize/old-serves-meanwhile",
        "the old model computes the same while a new one is made",
        levels::old_serves_meanwhile,
    ),
    model(
        "requantize/every-level",
        "every offered level can be had",
        levels::every_level,
    ),
    model(
        "quantize/cancel-leaves-nothing",
        "a cancelled call leaves no file",
        levels::cancel_leaves_nothing,
    ),
    model(
        "embedder/batch-equals-alone",
        "texts get the same vectors in a batch as alone",
        embedder::batch_equals_alone,
    ),
    model(
        "embedder/works-after-error",
        "an interrupted call does not affect the next one",
        embedder::works_after_error,
    ),
    model(
        "steady/no-allocation",
        "decoding allocates nothing",
        steady::no_allocation,
    ),
    model(
        "steady/no-log",
        "decoding logs and prints nothing",
        steady::no_log,
    ),
    model(
        "steady/no-thread-leak",
        "sessions leave no threads behind",
        steady::no_thread_leak,
    ),
];
