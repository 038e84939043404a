/*
 * The ABI of backends for the LLM server Tenon, in C99. The header is also valid C11 and C++11.
 *
 * A backend is a shared library that puts tokens through a model. It exports one function, `tenon_plugin_c_v1`, and fills in
 * the tables of this header. The server, called the host, does the rest: HTTP, chat templates, scheduling, grammars, caching.
 * The chapter "In C" of `plugin-api/GUIDE.md` leads through `plugins/ngram-c`, a whole backend.
 *
 * Rules that hold for every function and struct here:
 *
 * - Threads. `[any thread]`: may be called from several threads at once. `[model thread]`: called by the one thread that owns
 *   the session, so never by two threads at once.
 * - Objects. An object is a pair of `self`, which only its maker understands and which may be NULL, and a table of functions.
 *   Tables and `tenon_plugin` live until the process ends: make them `static const`. The host calls `drop` once, after every
 *   other call, and in any order with the `drop` of other objects: a session and a tokenizer own what they need of the model.
 * - Growth. Every table, and every struct that crosses once, begins with `size`, its `sizeof`. The reader reads only what
 *   the size covers. Later minor versions add fields and functions at the end; what is absent counts as NULL or 0. A function
 *   that may be NULL says so. The host may be older than this header: before you read a field or call a function that says "since ABI
 *   1.N", check that `size` covers it. Fields of 1.0 need no check. Optional interfaces are not found by name as in Rust: each
 *   later interface is a function at the end of a table.
 * - What must be understood. Words called `reserved`, and flags, are 0 unless a later minor version gives them a meaning. The
 *   host knows the plugin's `abi_minor`, and itself answers TENON_UNSUPPORTED to a call that needs a later version, so a
 *   plugin need not look at these words. The plugin sets them to 0 in everything that it returns; the host refuses other
 *   values. Words called `hints` may be ignored.
 *   In `meta`, names that the reader does not know are ignored, except those that begin with `!`: the host refuses them. An error
 *   with such a name counts as TENON_UNSUPPORTED.
 * - Strings. UTF-8 with a length, without a zero at the end. `ptr` may be NULL if `len` is 0. Arguments of a function are
 *   borrowed: they are valid for the call only. A plugin hands its results as structs to a sink, which copies them: the memory
 *   that a struct points to need only live for the call of the sink.
 * - Errors. Functions that can fail return a code. Before it returns another code than TENON_OK, a function may hand a
 *   sentence to `error`: what is wrong, with names, and what to do about it. Results of a failed call are not read.
 * - Units. Sizes are in bytes, lengths and positions in tokens, unless the name says otherwise.
 * - No C++ exception and no `longjmp` may leave a function of the plugin. A crash ends the process, which serves one model.
 * - Arrays. `X_len` next to `X` is the number of its elements. `X` may be NULL if that is 0.
 */
#ifndef TENON_PLUGIN_H
#define TENON_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the ABI that this header describes. A plugin and a host with the same major version work together. */
#define TENON_ABI_MAJOR 1
#define TENON_ABI_MINOR 0

/* Makes the function that a plugin exports visible to the host. */
#if defined(__GNUC__)
#define TENON_EXPORT __attribute__((visibility("default")))
#else
#define TENON_EXPORT
#endif

/* A size without a limit, in `tenon_session_info`. */
#define TENON_UNLIMITED UINT32_MAX
/* Value of `tenon_sample_request.forced` that means: choose a token. */
#define TENON_NOT_FORCED UINT32_MAX

/* ---- Values ---------------------------------------------------------------------------------------------------------- */

/* Why a call failed. A later version may add codes; the host treats unknown ones as TENON_INTERNAL. */
typedef uint32_t tenon_code;
enum {
    /* No error. */
    TENON_OK = 0,
    /* The arguments make no sense, or the file is not what it should be. */
    TENON_INVALID = 1,
    /* The backend does not do this. */
    TENON_UNSUPPORTED = 2,
    /* The KV pool has no room. Nothing was changed: the host frees or truncates sequences and tries again. */
    TENON_NO_KV_SPACE = 3,
    /* The machine or the device is out of memory. */
    TENON_NO_MEMORY = 4,
    /* A span does not begin where its sequence ends. */
    TENON_BAD_POSITION = 5,
    /* The sequence's KV could not be restored: the host frees the sequence and computes it again. */
    TENON_SEQUENCE_LOST = 6,
    /* The mask allows no token. */
    TENON_NO_ALLOWED_TOKEN = 7,
    /* A row of logits has a NaN or infinity in it. */
    TENON_BAD_LOGITS = 8,
    /* The host asked to stop, through `interrupt` or the progress of the call. */
    TENON_CANCELLED = 9,
    /* The device does not answer any more. The model must be loaded again. */
    TENON_DEVICE_LOST = 10,
    /* The plugin is broken beyond repair in this object. The host drops the model, and may load it again. */
    TENON_PANICKED = 11,
    /* A file could not be read or written. */
    TENON_IO = 12,
    /* A fault of the plugin. */
    TENON_INTERNAL = 13
};

/* How important a line of log is. The host treats unknown levels as TENON_DEBUG. */
typedef uint32_t tenon_log_level;
enum { TENON_ERROR = 1, TENON_WARN = 2, TENON_INFO = 3, TENON_DEBUG = 4, TENON_TRACE = 5 };

/* What a token is. The host treats unknown kinds as TENON_NORMAL. */
typedef uint32_t tenon_token_kind;
enum {
    /* Ordinary text. */
    TENON_NORMAL = 0,
    /* Steers the model and is not text, for example `<|im_end|>`. Its bytes are its written form. */
    TENON_CONTROL = 1,
    /* Stands for one byte (SentencePiece `<0x0A>`). Its bytes are that byte. */
    TENON_BYTE = 2,
    /* Never used by the model. */
    TENON_UNUSED = 3,
    /* The unknown token. */
    TENON_UNKNOWN = 4,
    /* Added after training as a whole word, such as `<tool_call>`. It is found before a text is split, but is printed as
       text. */
    TENON_USER_DEFINED = 5
};

/* How `encode` of a tokenizer reads a text, as bits. */
typedef uint32_t tenon_encode_flags;
enum {
    /* Text that spells a control token becomes that token. Without this flag it is encoded as ordinary text. */
    TENON_PARSE_CONTROL = 1,
    /* Adds BOS (and EOS) if the model is configured so. */
    TENON_ADD_SPECIAL = 2,
    /* The text continues another: no SentencePiece space prefix. */
    TENON_CONTINUATION = 4
};

/* What a model can do beyond the basics, as bits of `tenon_model_info.capabilities`. */
enum {
    /* `encode` of a continuation gives the tokens that the model itself writes for it, and the bytes of these tokens are the
       text. With this the host can insert tokens that a grammar forces, without asking the model for each. */
    TENON_CANONICAL_TOKENIZER = 1
};

/* Which of the recommended sampling parameters are set, as bits of `tenon_model_info.recommended`. */
enum {
    TENON_TEMPERATURE = 1,
    TENON_TOP_P = 2,
    TENON_MIN_P = 4,
    TENON_TOP_K = 8,
    TENON_REPETITION_PENALTY = 16
};

/* A text in UTF-8. Where a text may be absent, `ptr` is NULL then. */
typedef struct tenon_str {
    const char *ptr;
    size_t len;
} tenon_str;

/* A `tenon_str` of a string literal. It is a constant expression. */
#define TENON_STR(literal) { literal, sizeof(literal) - 1 }

/* Several texts. */
typedef struct tenon_strs {
    const tenon_str *ptr;
    size_t len;
} tenon_strs;

/* Several token ids. */
typedef struct tenon_tokens {
    const uint32_t *ptr;
    size_t len;
} tenon_tokens;

/* A named fact. The key is a snake_case name of this ABI, or a reverse URI of anybody else. */
typedef struct tenon_key_value {
    tenon_str key;
    tenon_str value;
} tenon_key_value;

/* Named facts that a struct has no fields for. Each key occurs at most once. */
typedef struct tenon_meta {
    const tenon_key_value *ptr;
    size_t len;
} tenon_meta;

/* ---- What a plugin hands to the host --------------------------------------------------------------------------------- */

/* An error: the sentence and the details that a failed call has besides its code. */
typedef struct tenon_error {
    size_t size;
    /* One plain sentence: what is wrong, with names, and what to do about it. */
    tenon_str message;
    /* Details for programs, such as how many bytes are missing. */
    tenon_meta meta;
} tenon_error;

/* A device that a model can be loaded to. */
typedef struct tenon_device {
    size_t size;
    /* Name that configuration uses, for example `cpu` or `cuda:0`. */
    tenon_str id;
    /* The name for people. */
    tenon_str name;
    /* Size of its memory in bytes; 0 where unknown. */
    uint64_t memory_bytes;
    /* Free memory in bytes at the time of the call; 0 where unknown. */
    uint64_t free_bytes;
    /* Known name: `kernels`, the instructions or kernels that compute on the device, in a few words. `tenon doctor` shows it. */
    tenon_meta meta;
} tenon_device;

/* How well a backend fits a file. */
typedef struct tenon_support {
    size_t size;
    /* Why, in a few words. Shown when no backend fits. */
    tenon_str reason;
    /* 0 = not at all, 100 = made for it; more counts as 100. A file without a configured backend goes to the backend with the
       highest score. */
    uint32_t score;
    tenon_meta meta;
} tenon_support;

/* Memory that a model would take on one device, in bytes. */
typedef struct tenon_estimate {
    size_t size;
    /* The `tenon_device.id`. */
    tenon_str device;
    /* Bytes of weights. */
    uint64_t weight_bytes;
    /* Bytes of KV cache per token. */
    uint64_t kv_bytes_per_token;
    /* Bytes per sequence, whatever its length. */
    uint64_t sequence_bytes;
    /* Bytes of scratch space. */
    uint64_t compute_bytes;
    tenon_meta meta;
} tenon_estimate;

/* Facts about a loaded model. The host refuses a model with a `context_length` or `vocab_size` of 0, a `logits_width` below
   `vocab_size`, or a `bos` or `eos` that is no token. */
typedef struct tenon_model_info {
    size_t size;
    /* For example `llama`. */
    tenon_str architecture;
    /* Number of parameters. */
    uint64_t parameters;
    /* Bytes that the weights take in memory. */
    uint64_t weight_bytes;
    /* Positions (tokens) that the model was trained for. */
    uint32_t context_length;
    /* Number of tokens. Every id in the vocabulary and every sampled token is below it. */
    uint32_t vocab_size;
    /* Length of a row of logits, at least `vocab_size` (some models pad their rows). */
    uint32_t logits_width;
    /* 1 if `bos` is set, else 0. */
    uint32_t has_bos;
    /* The token that begins a sequence. Chat templates get its text. */
    uint32_t bos;
    /* Number of tensors whose type differs from the level, because their shape does not divide into its blocks. */
    uint32_t fallback_tensors;
    /* Every token that ends a generation (end of text, end of turn, end of message). Chat templates get the text of the first.
       If empty, only `max_tokens` and the context length end a generation. */
    tenon_tokens eos;
    /* Jinja source with Hugging Face semantics. Absent: the model cannot chat. */
    tenon_str chat_template;
    /* The template for chats with tools, if the model has a separate one. Absent: `chat_template` is for all chats. */
    tenon_str tool_chat_template;
    /* Current level of the weights, for example `Q4_1`. May be empty. */
    tenon_str quantization;
    /* Level of the weights on disk, which other levels are made from. Empty: the same as `quantization`. */
    tenon_str source_quantization;
    /* Levels that `requantize` takes, from the most to the least faithful. The host passes one of these names. */
    tenon_strs requantize_levels;
    /* What the model can do beyond the basics. The host does not use capabilities that it does not know. */
    uint64_t capabilities;
    /* Which of the next five the model's makers recommend: TENON_TEMPERATURE and so on. The others are ignored. */
    uint32_t recommended;
    float temperature;
    float top_p;
    float min_p;
    uint32_t top_k;
    float repetition_penalty;
    /* `text` = `none`: the model generates no text, as encoders do. The host refuses requests for text, and makes no session of
       the model. */
    tenon_meta meta;
} tenon_model_info;

/* The bytes and the kind of one token. They are bytes and not text, because a token may hold half a character. */
typedef struct tenon_token {
    size_t size;
    const uint8_t *bytes;
    size_t bytes_len;
    tenon_token_kind kind;
} tenon_token;

/* Facts about an embedder. The host refuses an embedder with `dimensions` or `max_tokens` of 0. */
typedef struct tenon_embedder_info {
    size_t size;
    /* Length of an embedding. */
    uint32_t dimensions;
    /* Longest text, in tokens. */
    uint32_t max_tokens;
    /* How the vectors of all tokens become one: `mean`, `last`, `cls`, or `rank` for a judge of pairs. For people. */
    tenon_str pooling;
    /* `pair`: the embedder judges pairs of texts, as cross-encoders do. The value is the text of a pair with `{query}` and
       `{document}` in it, which is read with its control tokens, for example `[CLS]{query}[SEP]{document}[SEP]`. `dimensions` is
       1: a number from 0 to 1, which the host leaves as it is. */
    tenon_meta meta;
} tenon_embedder_info;

/* Sinks take the results of a function. A sink belongs to the host and is valid for the call that it was passed to. `put`
   may be called on the calling thread only, as often as the function says. It copies what it gets. Only the error of a failed
   call counts. */
typedef struct tenon_error_sink {
    void *self;
    void (*put)(void *self, const tenon_error *error);
} tenon_error_sink;

typedef struct tenon_device_sink {
    void *self;
    void (*put)(void *self, const tenon_device *device);
} tenon_device_sink;

typedef struct tenon_support_sink {
    void *self;
    void (*put)(void *self, const tenon_support *support);
} tenon_support_sink;

typedef struct tenon_estimate_sink {
    void *self;
    void (*put)(void *self, const tenon_estimate *estimate);
} tenon_estimate_sink;

typedef struct tenon_model_info_sink {
    void *self;
    void (*put)(void *self, const tenon_model_info *info);
} tenon_model_info_sink;

typedef struct tenon_tokens_sink {
    void *self;
    void (*put)(void *self, const tenon_tokens *tokens);
} tenon_tokens_sink;

typedef struct tenon_vocabulary_sink {
    void *self;
    void (*put)(void *self, const tenon_token *token);
} tenon_vocabulary_sink;

typedef struct tenon_embedder_info_sink {
    void *self;
    void (*put)(void *self, const tenon_embedder_info *info);
} tenon_embedder_info_sink;

/* ---- What the host hands to a plugin --------------------------------------------------------------------------------- */

/* Services of the host. */
typedef struct tenon_host_vtable {
    size_t size;
    /* [any thread] Writes a line to the host's log, which adds the plugin's id. `target` names the part of the plugin that logs,
       for filters. Bytes that are not UTF-8 are replaced. Do not log in `forward` or `sample`. */
    void (*log)(void *self, tenon_log_level level, tenon_str target, tenon_str message);
    /* [any thread] How many threads the plugin may use for computing, at least 1. A plugin never asks the machine for this
       number. */
    uint32_t (*threads)(void *self);
    /* [any thread] A directory of the plugin's own, for files that stay between runs. It may not exist yet, and anybody may
       empty it. The text is valid until the process ends. */
    tenon_str (*cache_dir)(void *self);
} tenon_host_vtable;

/* The host. It lives until the process ends; keep a copy. */
typedef struct tenon_host {
    void *self;
    const tenon_host_vtable *vtable;
} tenon_host;

/* Receives the progress of a long call. */
typedef struct tenon_progress_vtable {
    size_t size;
    /* [any thread] `fraction` is in 0..=1, or negative if unknown; `message` says what is being done. 0: the host wants the call
       to stop: clean up and return TENON_CANCELLED. */
    uint32_t (*report)(void *self, float fraction, tenon_str message);
} tenon_progress_vtable;

/* The way for a long call to report how far it is, and to learn that it should stop. Valid for the call. */
typedef struct tenon_progress {
    void *self;
    const tenon_progress_vtable *vtable;
} tenon_progress;

/* What to load, and how. */
typedef struct tenon_load_args {
    size_t size;
    /* The model's file or directory. */
    tenon_str path;
    /* `tenon_device.id`s to use. Empty: the backend decides. */
    tenon_strs devices;
    /* Level to quantize to while loading, for example `Q8_0`. Absent: the level of the file. A backend that cannot quantize
       answers TENON_UNSUPPORTED. */
    tenon_str quantize;
    /* The model's own options as a JSON object; `{}` without any. */
    tenon_str options;
    /* Threads that may be used. 0: as many as `threads` of the host says. */
    uint32_t threads;
    tenon_meta meta;
} tenon_load_args;

/* What the host asks of a session. */
typedef struct tenon_session_args {
    size_t size;
    /* Number of sequences at once, at least 1. */
    uint32_t max_sequences;
    /* Size of the KV pool in tokens, shared by all sequences. 0: the plugin decides. */
    uint32_t kv_tokens;
    /* Longest that a sequence may become, in tokens. 0: as long as the model was trained for. */
    uint32_t context_length;
    /* Most tokens in one batch, at least 1. */
    uint32_t max_batch_tokens;
    /* Threads for computing. 0: as many as `threads` of the host says. */
    uint32_t threads;
    /* Not 0 while the host wants a running `forward` to stop, because nobody waits for it any more. Valid as long as the
       session. Read it with `tenon_is_set`. */
    const volatile uint32_t *interrupt;
    tenon_meta meta;
} tenon_session_args;

/* ---- What crosses on every step. These structs are Rust's, byte for byte ---------------------------------------------- */

/* The tokens of one sequence in a batch. */
typedef struct tenon_span {
    /* Sequence id, below the number of sequences that the session grants. */
    uint32_t seq;
    /* Where the span begins: the number of tokens that the sequence has stored; any other number is TENON_BAD_POSITION. A
       model may give its tokens other positions, for rotary embeddings and the like. */
    uint32_t start;
    /* Number of tokens, at least 1. */
    uint32_t len;
    /* How many trailing positions need logits: 1 for decoding and for the last chunk of a prompt, k + 1 with k draft tokens, 0
       inside a prompt. */
    uint32_t rows;
    /* Flags that must be understood. 0, because no flag is defined yet. */
    uint32_t flags;
    uint64_t reserved[2];
    uint64_t hints[1];
} tenon_span;

/* A ragged batch: spans of different lengths, one after the other, without padding. Borrowed from the host for the call. */
typedef struct tenon_batch {
    /* Tokens of all spans, flat: [sum of span.len]. UINT32_MAX is no token: the number is kept for a later meaning. */
    const uint32_t *tokens;
    size_t tokens_len;
    /* The spans in batch order. A sequence has at most one. */
    const tenon_span *spans;
    size_t spans_len;
    uint64_t reserved[4];
    uint64_t hints[2];
} tenon_batch;

/* The outcome of a span. */
typedef struct tenon_span_out {
    /* TENON_OK, or why this span was not computed. An error of one span does not affect the others. A span commits wholly or
       not at all: after an error the sequence has its old length, unless the code is TENON_SEQUENCE_LOST. */
    tenon_code status;
    /* Number of the first of the span's `rows` rows of logits. Rows are numbered in batch order without gaps, and only spans
       with the status TENON_OK have rows: the host refuses other numbers. Rows live until the next `forward`. */
    uint32_t first_row;
    uint64_t reserved[2];
    uint64_t hints[1];
} tenon_span_out;

/* How full the KV pool is, in tokens. It is a hint: TENON_NO_KV_SPACE has the last word. */
typedef struct tenon_kv_stats {
    /* Number of stored tokens. A shared token counts once. */
    uint32_t used_tokens;
    /* Number of tokens that fit. */
    uint32_t total_tokens;
    uint64_t hints[2];
} tenon_kv_stats;

/* How many threads a session computes with. */
typedef struct tenon_thread_plan {
    /* Threads for batches with one token per sequence, at least 1. */
    uint32_t decode;
    /* Threads for larger batches, at least 1. */
    uint32_t prefill;
    /* How idle threads wait during decode: from 0 = sleep to 100 = spin. */
    uint32_t decode_poll;
    /* The same during larger batches. */
    uint32_t prefill_poll;
    uint64_t reserved[2];
    uint64_t hints[2];
} tenon_thread_plan;

/* What a session grants. The host stays within it. The sizes must not be 0; `max_rollback` and the flags may be. A session to
   which a size makes no difference grants TENON_UNLIMITED: the host then chooses a size itself. */
typedef struct tenon_session_info {
    /* Number of sequences at once. Sequence ids are below it. */
    uint32_t max_sequences;
    /* Size of the KV pool in tokens, shared by all sequences. */
    uint32_t kv_tokens;
    /* Longest that a sequence may become, in tokens. */
    uint32_t context_length;
    /* Most tokens in one batch. */
    uint32_t max_batch_tokens;
    /* Most rows of logits that one batch may ask for. */
    uint32_t max_rows;
    /* How many positions `truncate` can take back, counted from the end that a sequence's last `forward` left: 0 for none,
       TENON_UNLIMITED for any number. Positions that a fork began with need not be among them. */
    uint32_t max_rollback;
    /* 1 if `fork` takes any length. 0: only whole sequences can be forked. */
    uint32_t fork_any_len;
    /* Number of cached but idle tokens that slow down the decoding of one sequence by a twentieth. 0: idle tokens cost nothing.
       The host keeps no more idle tokens than this, except those of the sequence that ended last. */
    uint32_t costly_idle_tokens;
    uint64_t reserved[4];
    uint64_t hints[4];
} tenon_session_info;

/* Sampling parameters. */
typedef struct tenon_sample_params {
    /* Divides the logits. 0 = greedy: the largest logit, the smallest id among equals. */
    float temperature;
    /* Keep the smallest set of most likely tokens with this mass. 1 = off. */
    float top_p;
    /* Keep tokens at least this likely relative to the most likely one. 0 = off. */
    float min_p;
    /* Keep the smallest set of tokens with this mass whose surprise is closest to the entropy (locally typical sampling). 1 =
       off. */
    float typical_p;
    /* Divides positive and multiplies negative logits of tokens in prompt or output. 1 = off. */
    float repetition_penalty;
    /* Subtracted from a token's logit once for each time it occurs in the output. 0 = off. */
    float frequency_penalty;
    /* Subtracted from a token's logit once if it occurs in the output. 0 = off. */
    float presence_penalty;
    /* Keep the `top_k` most likely tokens. 0 = off. */
    uint32_t top_k;
    uint64_t reserved[4];
} tenon_sample_params;

/* A bias for one token's logit. */
typedef struct tenon_token_bias {
    uint32_t token;
    /* What is added to the logit; negative infinity forbids the token. */
    float bias;
} tenon_token_bias;

/* How often a token occurs in a sequence. */
typedef struct tenon_token_count {
    uint32_t token;
    /* Times in the prompt. */
    uint32_t prompt;
    /* Times in the output. */
    uint32_t output;
} tenon_token_count;

/* A token and the natural logarithm of its probability in the model's own distribution: before bias, penalties, temperature
   and mask. */
typedef struct tenon_token_logprob {
    uint32_t token;
    float logprob;
} tenon_token_logprob;

/* A request to pick a token from one row of logits. Borrowed from the host for the call. Its token ids are below
   `vocab_size`. */
typedef struct tenon_sample_request {
    /* The row of logits, numbered as in `tenon_span_out.first_row`. */
    uint32_t row;
    /* Score this token instead of choosing one. TENON_NOT_FORCED: choose one. */
    uint32_t forced;
    /* Uniform random bits, the only source of randomness. On a CPU the upper 53 bits are mapped to [0, 1) as a fraction. A
       device may use them as the key of a counter-based generator. */
    uint64_t draw;
    /* How to choose. */
    tenon_sample_params params;
    /* Allowed tokens as bits, [ceil(logits_width / 32)], bit `t % 32` of word `t / 32`; padding bits are 0. Empty: all are
       allowed. Applied before any truncation. */
    const uint32_t *mask;
    size_t mask_len;
    /* Biases, added to the logits before the penalties. Each token occurs at most once. */
    const tenon_token_bias *bias;
    size_t bias_len;
    /* Counts of the sequence's tokens so far, for the penalties. Each token occurs at most once. */
    const tenon_token_count *counts;
    size_t counts_len;
    /* Draft tokens before this row, counted as output on top of `counts`. */
    const uint32_t *appended;
    size_t appended_len;
    /* 1 if `tenon_sampled.logprob` is wanted. */
    uint32_t logprob;
    /* How many of the most likely tokens to report; at most `tenon_sampled.top_room`. */
    uint32_t top_logprobs;
    uint64_t reserved[4];
    uint64_t hints[2];
} tenon_sample_request;

/* The answer to the request at the same place. The host lends the buffer `top`; the plugin fills it and writes the other
   fields, but neither `top` nor `top_room`. The host refuses answers that have changed places. */
typedef struct tenon_sampled {
    /* The token, below `vocab_size`. */
    uint32_t token;
    /* The token's log-probability, if the request asked for it. */
    float logprob;
    /* Buffer for the most likely tokens, the most likely first. */
    tenon_token_logprob *top;
    /* How many entries the buffer has room for. */
    size_t top_room;
    /* How many entries were written. */
    uint32_t top_len;
    /* TENON_OK, or why this request has no token. The others are not affected. */
    tenon_code status;
    uint64_t reserved[2];
    uint64_t hints[1];
} tenon_sampled;

/* ---- The objects of a plugin ----------------------------------------------------------------------------------------- */

/* One KV pool and the sequences in it. Every call is made on the `[model thread]`, and so is `drop`.
 *
 * A sequence has an id below `max_sequences` of the session and a stored length, which is 0 at first. `forward`, `sample`,
 * `fork`, `truncate` and `free` run for every token: do not allocate in them what can be kept, and do not log. */
typedef struct tenon_session_vtable {
    size_t size;
    /* [model thread] Ends the session. */
    void (*drop)(void *self);
    /* [model thread] Fills in what the session grants. `out` arrives as zeros. Asked once, after the session was made. */
    void (*info)(void *self, tenon_session_info *out);
    /* [model thread] Puts a ragged batch through the model and stores its KV. `out` is as long as `batch->spans`. May return
       before the device is done; errors may then surface at `sample` or `logits`.
       Every `out` arrives with status TENON_OK and row 0. Any forward, even a failed one, invalidates the rows of the one
       before.
       Errors: an error here means that no span was computed and nothing was changed. An error of one span goes into its
       `status`. Codes: TENON_NO_KV_SPACE, TENON_CANCELLED, TENON_NO_MEMORY, TENON_DEVICE_LOST. After TENON_DEVICE_LOST the host
       drops the session. */
    tenon_code (*forward)(void *self, const tenon_batch *batch, tenon_span_out *out, tenon_error_sink error);
    /* [model thread] Logits of a row of the last forward: `*out` becomes the address of [logits_width] floats, as the model
       computed them. May wait for the device. Rows can be read in any order and repeatedly, until the next forward.
       Errors: TENON_INVALID for a row that does not exist; TENON_DEVICE_LOST. */
    tenon_code (*logits)(void *self, uint32_t row, const float **out, tenon_error_sink error);
    /* [model thread] Picks one token for each of `len` requests; `out` is as long. May be NULL: the host then picks on the CPU
       from `logits`. Set it to sample on the device that has the logits. The same request over the same row gives the same
       token, whatever else is in the call.
       Errors: an error of one request goes into its `status`: TENON_NO_ALLOWED_TOKEN, TENON_BAD_LOGITS, or TENON_SEQUENCE_LOST if
       a `forward` that returned early could not compute the row. The host then frees that sequence and computes it again. An
       error here is an error of every request: TENON_INVALID for a row that does not exist; TENON_SEQUENCE_LOST;
       TENON_CANCELLED if the host has set `interrupt`. After TENON_DEVICE_LOST the host drops the session. Except for lost
       sequences, the spans of the last `forward` stay stored. */
    tenon_code (*sample)(void *self, const tenon_sample_request *requests, size_t len, tenon_sampled *out,
                         tenon_error_sink error);
    /* [model thread] Shares the first `len` positions of `src` with the empty sequence `dst`. A later change of one sequence
       does not show in the other. May be NULL: TENON_UNSUPPORTED.
       A fork takes no room in the KV pool: the host counts shared positions once. It may take time and other memory. A KV cache
       only notes who shares its cells. A recurrent model copies its state: a part of `tenon_estimate.sequence_bytes`. The host
       forks when a prompt begins like a stored sequence, and to store a prefix for later prompts. It does not fork in each step.
       Errors: TENON_UNSUPPORTED if `len` is not the whole of `src` where `fork_any_len` is 0; TENON_INVALID for a `dst` that is
       not empty, a `src` shorter than `len`, or ids that do not exist. An error changes nothing. */
    tenon_code (*fork)(void *self, uint32_t src, uint32_t dst, uint32_t len, tenon_error_sink error);
    /* [model thread] Drops the positions of `seq` from `len` on. Does nothing if `seq` is not longer. May be NULL:
       TENON_UNSUPPORTED.
       Errors: TENON_UNSUPPORTED beyond `max_rollback`. An error changes nothing. */
    tenon_code (*truncate)(void *self, uint32_t seq, uint32_t len, tenon_error_sink error);
    /* [model thread] Drops a sequence: its length is 0 and its KV space free again. Never fails, also for an empty sequence. */
    void (*free)(void *self, uint32_t seq);
    /* [model thread] How full the pool is, as a hint. `out` arrives as zeros. May be NULL: `out` then stays zero. */
    void (*kv_stats)(void *self, tenon_kv_stats *out);
    /* [model thread, between forwards] Changes how many threads the session computes with, from the next forward on. May be
       NULL: TENON_UNSUPPORTED.
       Errors: TENON_INVALID for 0 threads. After an error the session keeps its threads. */
    tenon_code (*set_threads)(void *self, const tenon_thread_plan *plan, tenon_error_sink error);
} tenon_session_vtable;

typedef struct tenon_session {
    void *self;
    const tenon_session_vtable *vtable;
} tenon_session;

/* Encodes text into tokens, and says what each token is. */
typedef struct tenon_tokenizer_vtable {
    size_t size;
    /* [any thread] Ends the tokenizer. */
    void (*drop)(void *self);
    /* [any thread] Puts the token ids of a text into `out`, all below `vocab_size`, in one piece or several. Called by several
       threads at once, and while the session computes. The empty text has no tokens except those that TENON_ADD_SPECIAL adds.
       Flags must be understood; the host sets none that came after the plugin's `abi_minor`.
       Errors: TENON_INVALID for text that cannot be encoded: the client's request is refused with the message. */
    tenon_code (*encode)(void *self, tenon_str text, tenon_encode_flags flags, tenon_tokens_sink out, tenon_error_sink error);
    /* [any thread] Puts every token into `out`, in the order of ids, exactly `vocab_size` of them. Called once per load. The
       host decodes tokens to text with it, so the bytes are those of running text: the space before a word is included, and
       the markers of BPE and SentencePiece are undone.
       Errors: TENON_INTERNAL if the vocabulary cannot be read. */
    tenon_code (*vocabulary)(void *self, tenon_vocabulary_sink out, tenon_error_sink error);
} tenon_tokenizer_vtable;

typedef struct tenon_tokenizer {
    void *self;
    const tenon_tokenizer_vtable *vtable;
} tenon_tokenizer;

/* Turns texts into vectors. Texts with a similar meaning get vectors that are near each other.
 *
 * The host calls `embed` when the first request for embeddings comes, on a thread that does nothing else. So take memory in
 * `embed` and not before: most models never see such a request. An embedder owns what it needs of the model, as a session does,
 * and computes beside the session: with as many threads as `tenon_load_args.threads` says, which do not spin while they wait. */
typedef struct tenon_embedder_vtable {
    size_t size;
    /* [any thread] Ends the embedder. */
    void (*drop)(void *self);
    /* [any thread] Puts facts about the embedder into `out`, once. They never change.
       Errors: TENON_INTERNAL. */
    tenon_code (*info)(void *self, tenon_embedder_info_sink out, tenon_error_sink error);
    /* [one thread at a time] Embeds `len` texts: at least one, each of 1 to `max_tokens` tokens of the model. `out` is [texts,
       dimensions], row by row, and arrives as zeros. The length of a vector does not matter: the host scales it to 1. The same
       text gives the same vector except for rounding, whatever else is in the call. `interrupt` is as in `tenon_session_args`,
       valid for the call: check it between texts, and within long texts where that is cheap.
       Errors: an error fails the whole call, and the next call is made as if nothing had happened. TENON_CANCELLED,
       TENON_NO_MEMORY, TENON_INTERNAL. */
    tenon_code (*embed)(void *self, const tenon_tokens *texts, size_t len, const volatile uint32_t *interrupt, float *out,
                        tenon_error_sink error);
} tenon_embedder_vtable;

typedef struct tenon_embedder {
    void *self;
    const tenon_embedder_vtable *vtable;
} tenon_embedder;

typedef struct tenon_model tenon_model;

/* A loaded model: weights and tokenizer. The host keeps the model to requantize it, and drops the model, its sessions and its
 * tokenizers in any order. So sessions and tokenizers own what they need of the model: count who uses it. */
typedef struct tenon_model_vtable {
    size_t size;
    /* [any thread] Ends the model object. */
    void (*drop)(void *self);
    /* [any thread] Puts facts about the model into `out`, once. They never change.
       Errors: TENON_INTERNAL. */
    tenon_code (*info)(void *self, tenon_model_info_sink out, tenon_error_sink error);
    /* [any thread] Makes the model's tokenizer. It serves requests for as long as the model does.
       Errors: TENON_INVALID if the model came without a tokenizer. Such a model cannot be served. */
    tenon_code (*tokenizer)(void *self, tenon_tokenizer *out, tenon_error_sink error);
    /* [model thread] Makes a session: a KV pool for many sequences, all empty. The session is used and dropped on the thread
       that made it. It may grant less than was asked, and says so in its `info`. May be NULL if no model of this table generates
       text: the host makes no session of such a model.
       Errors: TENON_NO_MEMORY; TENON_INVALID for sizes that cannot be granted. */
    tenon_code (*session)(void *self, const tenon_session_args *args, tenon_session *out, tenon_error_sink error);
    /* [any thread] Makes a new model at another level from the original weights on disk, while this model goes on serving.
       `level` is one of `requantize_levels`. May be NULL: TENON_UNSUPPORTED. The calling thread has a low priority, so that
       threads that answer requests come first. Threads that are started from it inherit this priority: do not keep them for
       the new model's sessions.
       Errors: TENON_UNSUPPORTED for levels that the model does not have; TENON_IO, TENON_NO_MEMORY, TENON_CANCELLED. */
    tenon_code (*requantize)(void *self, tenon_str level, tenon_progress progress, tenon_model *out, tenon_error_sink error);
    /* [any thread] Makes the model's embedder. May be NULL: the model makes no embeddings. Asked once, before the model is
       dropped.
       Errors: TENON_UNSUPPORTED if this model makes no embeddings; TENON_INTERNAL. */
    tenon_code (*embedder)(void *self, tenon_embedder *out, tenon_error_sink error);
} tenon_model_vtable;

struct tenon_model {
    void *self;
    const tenon_model_vtable *vtable;
};

/* The plugin as a whole. It finds out what it can load, and loads it. There is one per process, which is never dropped. */
typedef struct tenon_backend_vtable {
    size_t size;
    /* [any thread] Puts each device that models can be loaded to into `out`. May be NULL: one device with the id `cpu`.
       Errors: when the devices cannot be queried. */
    tenon_code (*devices)(void *self, tenon_device_sink out, tenon_error_sink error);
    /* [any thread] Puts into `out`, once, whether this backend can load the file or directory. Read a header, no more: the host
       asks for every model that has no backend configured. For a path that does not exist the answer is a score of 0, with
       that reason. */
    void (*supports)(void *self, tenon_str path, tenon_support_sink out);
    /* [any thread] Puts the memory that loading with `load` and serving with `session` would take into `out`, once for each
       device. May be NULL: TENON_UNSUPPORTED.
       Errors: TENON_INVALID or TENON_IO for a file that cannot be read. */
    tenon_code (*estimate)(void *self, const tenon_load_args *load, const tenon_session_args *session,
                           tenon_estimate_sink out, tenon_error_sink error);
    /* [any thread] Loads a model. May take long: report to `progress`. Called once for each model that the server has, and
       again for the same path after a lost device.
       Errors: TENON_INVALID (with the file's name) for a file that is no such model, TENON_NO_MEMORY, TENON_IO,
       TENON_CANCELLED, TENON_UNSUPPORTED for devices or a level that the backend does not have. */
    tenon_code (*load)(void *self, const tenon_load_args *args, tenon_progress progress, tenon_model *out,
                       tenon_error_sink error);
    /* [any thread] Writes the model of `args->path` at the level `args->quantize`, which is never absent here. `output` is the
       file or directory to write; it does not exist yet. May take long: report to `progress`. After an error, nothing of
       `output` must be left. Puts facts about the written model into `out`, once. Of these the host uses `quantization`,
       `source_quantization`, `fallback_tensors` and `weight_bytes`. May be NULL: TENON_UNSUPPORTED.
       Errors: as for `load`. */
    tenon_code (*quantize)(void *self, const tenon_load_args *args, tenon_str output, tenon_progress progress,
                           tenon_model_info_sink out, tenon_error_sink error);
} tenon_backend_vtable;

typedef struct tenon_backend {
    void *self;
    const tenon_backend_vtable *vtable;
} tenon_backend;

/* What a plugin's library exports. Texts are valid until the process ends. */
typedef struct tenon_plugin {
    /* `size` and the version stay where they are in every version. */
    size_t size;
    /* The ABI that the plugin was built against: TENON_ABI_MAJOR and TENON_ABI_MINOR. */
    uint32_t abi_major;
    uint32_t abi_minor;
    /* A reverse URI that never changes, for example `org.tenon.echo`: ASCII letters, digits, `-` and `_`, with at least one
       dot. The configuration names the backend by this id. A process has only one plugin of the same id. */
    tenon_str id;
    /* The name for people. */
    tenon_str name;
    /* Version of the plugin. */
    tenon_str version;
    /* Who makes it. May be empty. */
    tenon_str vendor;
    /* SPDX expression. May be empty. */
    tenon_str license;
    /* What the plugin was built from and for, for bug reports. May be empty. */
    tenon_str build;
    /* Known names: `options_schema` and `model_options_schema`, JSON Schemas of the options of the plugin and of its models, by
       which the host checks them; `levels`, the quantization levels, separated by spaces. */
    tenon_meta meta;
    /* [any thread, once, before every other call] Starts the backend. `options` is the JSON object of `[plugins.options."ID"]`,
       or `{}` if there is none.
       Errors: TENON_INVALID for options that the plugin does not know; the message names them. After an error the host does
       not use the plugin, and lists it with the error's message. */
    tenon_code (*init)(tenon_host host, tenon_str options, tenon_backend *out, tenon_error_sink error);
} tenon_plugin;

/* [any thread, before init] The plugin's table. A plugin defines this function. It does nothing else. */
TENON_EXPORT const tenon_plugin *tenon_plugin_c_v1(void);

/* ---- Helpers --------------------------------------------------------------------------------------------------------- */

/* A `tenon_str` of a text that ends with a zero. */
static inline tenon_str tenon_str_of(const char *text) {
    tenon_str str;
    str.ptr = text;
    str.len = strlen(text);
    return str;
}

/* Hands a sentence to `error`, and returns `code`: `return tenon_fail(error, TENON_IO, "…");` */
static inline tenon_code tenon_fail(tenon_error_sink error, tenon_code code, const char *message) {
    tenon_error record;
    memset(&record, 0, sizeof record);
    record.size = sizeof record;
    record.message = tenon_str_of(message);
    error.put(error.self, &record);
    return code;
}

/* Whether the host has asked to stop. */
static inline int tenon_is_set(const volatile uint32_t *interrupt) {
    return *interrupt != 0;
}

/* ---- Layout: what Rust checks of its own structs, and `plugin-api/abi` compares with these lines ---------------------- */

#define TENON_JOIN_(a, b) a##b
#define TENON_JOIN(a, b) TENON_JOIN_(a, b)
#if defined(__cplusplus)
#define TENON_ASSERT(condition, text) static_assert(condition, text)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define TENON_ASSERT(condition, text) _Static_assert(condition, text)
#else
#define TENON_ASSERT(condition, text) typedef char TENON_JOIN(tenon_assert_, __LINE__)[(condition) ? 1 : -1]
#endif
#define TENON_SIZE(type, bytes) TENON_ASSERT(sizeof(type) == (bytes), #type)
#define TENON_AT(type, field, bytes) TENON_ASSERT(offsetof(type, field) == (bytes), #type "." #field)

TENON_SIZE(tenon_str, 16);
TENON_SIZE(tenon_strs, 16);
TENON_SIZE(tenon_tokens, 16);
TENON_SIZE(tenon_key_value, 32);
TENON_AT(tenon_key_value, key, 0);
TENON_AT(tenon_key_value, value, 16);
TENON_SIZE(tenon_meta, 16);
TENON_SIZE(tenon_error, 40);
TENON_AT(tenon_error, message, 8);
TENON_AT(tenon_error, meta, 24);
TENON_SIZE(tenon_device, 72);
TENON_AT(tenon_device, id, 8);
TENON_AT(tenon_device, name, 24);
TENON_AT(tenon_device, memory_bytes, 40);
TENON_AT(tenon_device, free_bytes, 48);
TENON_AT(tenon_device, meta, 56);
TENON_SIZE(tenon_support, 48);
TENON_AT(tenon_support, reason, 8);
TENON_AT(tenon_support, score, 24);
TENON_AT(tenon_support, meta, 32);
TENON_SIZE(tenon_estimate, 72);
TENON_AT(tenon_estimate, device, 8);
TENON_AT(tenon_estimate, weight_bytes, 24);
TENON_AT(tenon_estimate, kv_bytes_per_token, 32);
TENON_AT(tenon_estimate, sequence_bytes, 40);
TENON_AT(tenon_estimate, compute_bytes, 48);
TENON_AT(tenon_estimate, meta, 56);
TENON_SIZE(tenon_model_info, 208);
TENON_AT(tenon_model_info, architecture, 8);
TENON_AT(tenon_model_info, parameters, 24);
TENON_AT(tenon_model_info, weight_bytes, 32);
TENON_AT(tenon_model_info, context_length, 40);
TENON_AT(tenon_model_info, vocab_size, 44);
TENON_AT(tenon_model_info, logits_width, 48);
TENON_AT(tenon_model_info, has_bos, 52);
TENON_AT(tenon_model_info, bos, 56);
TENON_AT(tenon_model_info, fallback_tensors, 60);
TENON_AT(tenon_model_info, eos, 64);
TENON_AT(tenon_model_info, chat_template, 80);
TENON_AT(tenon_model_info, tool_chat_template, 96);
TENON_AT(tenon_model_info, quantization, 112);
TENON_AT(tenon_model_info, source_quantization, 128);
TENON_AT(tenon_model_info, requantize_levels, 144);
TENON_AT(tenon_model_info, capabilities, 160);
TENON_AT(tenon_model_info, recommended, 168);
TENON_AT(tenon_model_info, temperature, 172);
TENON_AT(tenon_model_info, top_p, 176);
TENON_AT(tenon_model_info, min_p, 180);
TENON_AT(tenon_model_info, top_k, 184);
TENON_AT(tenon_model_info, repetition_penalty, 188);
TENON_AT(tenon_model_info, meta, 192);
TENON_SIZE(tenon_token, 32);
TENON_AT(tenon_token, bytes, 8);
TENON_AT(tenon_token, bytes_len, 16);
TENON_AT(tenon_token, kind, 24);
TENON_SIZE(tenon_embedder_info, 48);
TENON_AT(tenon_embedder_info, dimensions, 8);
TENON_AT(tenon_embedder_info, max_tokens, 12);
TENON_AT(tenon_embedder_info, pooling, 16);
TENON_AT(tenon_embedder_info, meta, 32);
TENON_SIZE(tenon_error_sink, 16);
TENON_SIZE(tenon_device_sink, 16);
TENON_SIZE(tenon_support_sink, 16);
TENON_SIZE(tenon_estimate_sink, 16);
TENON_SIZE(tenon_model_info_sink, 16);
TENON_SIZE(tenon_tokens_sink, 16);
TENON_SIZE(tenon_vocabulary_sink, 16);
TENON_SIZE(tenon_embedder_info_sink, 16);
TENON_SIZE(tenon_host_vtable, 32);
TENON_AT(tenon_host_vtable, log, 8);
TENON_AT(tenon_host_vtable, threads, 16);
TENON_AT(tenon_host_vtable, cache_dir, 24);
TENON_SIZE(tenon_host, 16);
TENON_SIZE(tenon_progress_vtable, 16);
TENON_AT(tenon_progress_vtable, report, 8);
TENON_SIZE(tenon_progress, 16);
TENON_SIZE(tenon_load_args, 96);
TENON_AT(tenon_load_args, path, 8);
TENON_AT(tenon_load_args, devices, 24);
TENON_AT(tenon_load_args, quantize, 40);
TENON_AT(tenon_load_args, options, 56);
TENON_AT(tenon_load_args, threads, 72);
TENON_AT(tenon_load_args, meta, 80);
TENON_SIZE(tenon_session_args, 56);
TENON_AT(tenon_session_args, max_sequences, 8);
TENON_AT(tenon_session_args, kv_tokens, 12);
TENON_AT(tenon_session_args, context_length, 16);
TENON_AT(tenon_session_args, max_batch_tokens, 20);
TENON_AT(tenon_session_args, threads, 24);
TENON_AT(tenon_session_args, interrupt, 32);
TENON_AT(tenon_session_args, meta, 40);
TENON_SIZE(tenon_span, 48);
TENON_AT(tenon_span, seq, 0);
TENON_AT(tenon_span, start, 4);
TENON_AT(tenon_span, len, 8);
TENON_AT(tenon_span, rows, 12);
TENON_AT(tenon_span, flags, 16);
TENON_AT(tenon_span, reserved, 24);
TENON_AT(tenon_span, hints, 40);
TENON_SIZE(tenon_batch, 80);
TENON_AT(tenon_batch, tokens, 0);
TENON_AT(tenon_batch, tokens_len, 8);
TENON_AT(tenon_batch, spans, 16);
TENON_AT(tenon_batch, spans_len, 24);
TENON_AT(tenon_batch, reserved, 32);
TENON_AT(tenon_batch, hints, 64);
TENON_SIZE(tenon_span_out, 32);
TENON_AT(tenon_span_out, status, 0);
TENON_AT(tenon_span_out, first_row, 4);
TENON_AT(tenon_span_out, reserved, 8);
TENON_AT(tenon_span_out, hints, 24);
TENON_SIZE(tenon_kv_stats, 24);
TENON_AT(tenon_kv_stats, used_tokens, 0);
TENON_AT(tenon_kv_stats, total_tokens, 4);
TENON_AT(tenon_kv_stats, hints, 8);
TENON_SIZE(tenon_thread_plan, 48);
TENON_AT(tenon_thread_plan, decode, 0);
TENON_AT(tenon_thread_plan, prefill, 4);
TENON_AT(tenon_thread_plan, decode_poll, 8);
TENON_AT(tenon_thread_plan, prefill_poll, 12);
TENON_AT(tenon_thread_plan, reserved, 16);
TENON_AT(tenon_thread_plan, hints, 32);
TENON_SIZE(tenon_session_info, 96);
TENON_AT(tenon_session_info, max_sequences, 0);
TENON_AT(tenon_session_info, kv_tokens, 4);
TENON_AT(tenon_session_info, context_length, 8);
TENON_AT(tenon_session_info, max_batch_tokens, 12);
TENON_AT(tenon_session_info, max_rows, 16);
TENON_AT(tenon_session_info, max_rollback, 20);
TENON_AT(tenon_session_info, fork_any_len, 24);
TENON_AT(tenon_session_info, costly_idle_tokens, 28);
TENON_AT(tenon_session_info, reserved, 32);
TENON_AT(tenon_session_info, hints, 64);
TENON_SIZE(tenon_sample_params, 64);
TENON_AT(tenon_sample_params, temperature, 0);
TENON_AT(tenon_sample_params, top_p, 4);
TENON_AT(tenon_sample_params, min_p, 8);
TENON_AT(tenon_sample_params, typical_p, 12);
TENON_AT(tenon_sample_params, repetition_penalty, 16);
TENON_AT(tenon_sample_params, frequency_penalty, 20);
TENON_AT(tenon_sample_params, presence_penalty, 24);
TENON_AT(tenon_sample_params, top_k, 28);
TENON_AT(tenon_sample_params, reserved, 32);
TENON_SIZE(tenon_token_bias, 8);
TENON_AT(tenon_token_bias, token, 0);
TENON_AT(tenon_token_bias, bias, 4);
TENON_SIZE(tenon_token_count, 12);
TENON_AT(tenon_token_count, token, 0);
TENON_AT(tenon_token_count, prompt, 4);
TENON_AT(tenon_token_count, output, 8);
TENON_SIZE(tenon_token_logprob, 8);
TENON_AT(tenon_token_logprob, token, 0);
TENON_AT(tenon_token_logprob, logprob, 4);
TENON_SIZE(tenon_sample_request, 200);
TENON_AT(tenon_sample_request, row, 0);
TENON_AT(tenon_sample_request, forced, 4);
TENON_AT(tenon_sample_request, draw, 8);
TENON_AT(tenon_sample_request, params, 16);
TENON_AT(tenon_sample_request, mask, 80);
TENON_AT(tenon_sample_request, mask_len, 88);
TENON_AT(tenon_sample_request, bias, 96);
TENON_AT(tenon_sample_request, bias_len, 104);
TENON_AT(tenon_sample_request, counts, 112);
TENON_AT(tenon_sample_request, counts_len, 120);
TENON_AT(tenon_sample_request, appended, 128);
TENON_AT(tenon_sample_request, appended_len, 136);
TENON_AT(tenon_sample_request, logprob, 144);
TENON_AT(tenon_sample_request, top_logprobs, 148);
TENON_AT(tenon_sample_request, reserved, 152);
TENON_AT(tenon_sample_request, hints, 184);
TENON_SIZE(tenon_sampled, 56);
TENON_AT(tenon_sampled, token, 0);
TENON_AT(tenon_sampled, logprob, 4);
TENON_AT(tenon_sampled, top, 8);
TENON_AT(tenon_sampled, top_room, 16);
TENON_AT(tenon_sampled, top_len, 24);
TENON_AT(tenon_sampled, status, 28);
TENON_AT(tenon_sampled, reserved, 32);
TENON_AT(tenon_sampled, hints, 48);
TENON_SIZE(tenon_session_vtable, 88);
TENON_AT(tenon_session_vtable, drop, 8);
TENON_AT(tenon_session_vtable, info, 16);
TENON_AT(tenon_session_vtable, forward, 24);
TENON_AT(tenon_session_vtable, logits, 32);
TENON_AT(tenon_session_vtable, sample, 40);
TENON_AT(tenon_session_vtable, fork, 48);
TENON_AT(tenon_session_vtable, truncate, 56);
TENON_AT(tenon_session_vtable, free, 64);
TENON_AT(tenon_session_vtable, kv_stats, 72);
TENON_AT(tenon_session_vtable, set_threads, 80);
TENON_SIZE(tenon_session, 16);
TENON_SIZE(tenon_tokenizer_vtable, 32);
TENON_AT(tenon_tokenizer_vtable, drop, 8);
TENON_AT(tenon_tokenizer_vtable, encode, 16);
TENON_AT(tenon_tokenizer_vtable, vocabulary, 24);
TENON_SIZE(tenon_tokenizer, 16);
TENON_SIZE(tenon_embedder_vtable, 32);
TENON_AT(tenon_embedder_vtable, drop, 8);
TENON_AT(tenon_embedder_vtable, info, 16);
TENON_AT(tenon_embedder_vtable, embed, 24);
TENON_SIZE(tenon_embedder, 16);
TENON_SIZE(tenon_model_vtable, 56);
TENON_AT(tenon_model_vtable, drop, 8);
TENON_AT(tenon_model_vtable, info, 16);
TENON_AT(tenon_model_vtable, tokenizer, 24);
TENON_AT(tenon_model_vtable, session, 32);
TENON_AT(tenon_model_vtable, requantize, 40);
TENON_AT(tenon_model_vtable, embedder, 48);
TENON_SIZE(tenon_model, 16);
TENON_SIZE(tenon_backend_vtable, 48);
TENON_AT(tenon_backend_vtable, devices, 8);
TENON_AT(tenon_backend_vtable, supports, 16);
TENON_AT(tenon_backend_vtable, estimate, 24);
TENON_AT(tenon_backend_vtable, load, 32);
TENON_AT(tenon_backend_vtable, quantize, 40);
TENON_SIZE(tenon_backend, 16);
TENON_SIZE(tenon_plugin, 136);
TENON_AT(tenon_plugin, abi_major, 8);
TENON_AT(tenon_plugin, abi_minor, 12);
TENON_AT(tenon_plugin, id, 16);
TENON_AT(tenon_plugin, name, 32);
TENON_AT(tenon_plugin, version, 48);
TENON_AT(tenon_plugin, vendor, 64);
TENON_AT(tenon_plugin, license, 80);
TENON_AT(tenon_plugin, build, 96);
TENON_AT(tenon_plugin, meta, 112);
TENON_AT(tenon_plugin, init, 128);

#ifdef __cplusplus
}
#endif

#endif
