/* A whole backend in C: the template for plugins in C.
 *
 * A model is a text file `NAME.ngram` of whole lines. Its tokens are the 256 bytes and four control tokens. The logits of the
 * next byte come from counts in that text: what followed the last two bytes, and what followed the last byte. An answer ends
 * at an empty line. */
#include "tenon_plugin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BEGIN = 256, END, USER, ASSISTANT, VOCAB_SIZE, CONTEXT_LENGTH = 4096 };

static const char *const CONTROL[] = {"<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"};

#define CHAT_TEMPLATE                                                                                            \
    "{% for message in messages %}<|{{ 'assistant' if message.role == 'assistant' else 'user' }}|>"              \
    "{{ message.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"

/* ---- The counts. The model, its tokenizers and its sessions share them, and the last one frees them ---- */

typedef struct {
    uint32_t users, text_bytes;
    /* How often a byte follows one byte, and how often it follows two. */
    uint32_t bigrams[256][256];
    uint16_t trigrams[65536][256];
} ngram_model;

static ngram_model *shared(ngram_model *model) {
    __atomic_add_fetch(&model->users, 1, __ATOMIC_RELAXED);
    return model;
}

static void release(void *self) {
    ngram_model *model = self;
    if (__atomic_sub_fetch(&model->users, 1, __ATOMIC_ACQ_REL) == 0)
        free(model);
}

/* Whether the file was read to its end and is whole: a text that ends within a line is cut off. */
static int count(ngram_model *model, FILE *file) {
    int before = '\n', last = '\n', byte;
    while ((byte = fgetc(file)) != EOF && model->text_bytes < (1u << 30)) {
        uint16_t *trigram = &model->trigrams[before << 8 | last][byte];
        *trigram += *trigram < UINT16_MAX;
        model->bigrams[last][byte]++;
        model->text_bytes++;
        before = last;
        last = byte;
    }
    return model->text_bytes > 0 && last == '\n' && !ferror(file);
}

/* The row of logits for the token after `past`: [VOCAB_SIZE]. Control tokens count as ends of lines. */
static void predict(const ngram_model *model, const uint32_t *past, uint32_t len, float *row) {
    uint32_t last = past[len - 1] < 256 ? past[len - 1] : '\n', before = len > 1 && past[len - 2] < 256 ? past[len - 2] : '\n';
    for (uint32_t id = 0; id < VOCAB_SIZE; id++) {
        float seen = id < BEGIN ? 1000.0f * model->trigrams[before << 8 | last][id] + (float)model->bigrams[last][id] : 0.0f;
        row[id] = logf(seen + (id < BEGIN ? 0.01f : 1e-9f));
    }
    if (past[len - 1] == '\n' && before == '\n')
        row[END] = 30.0f;
}

/* ---- The tokenizer ---- */

/* The control token that the text begins with, or 0. */
static uint32_t control_at(const char *text, size_t len) {
    for (uint32_t id = BEGIN; id < VOCAB_SIZE; id++) {
        size_t bytes = strlen(CONTROL[id - BEGIN]);
        if (len >= bytes && memcmp(text, CONTROL[id - BEGIN], bytes) == 0)
            return id;
    }
    return 0;
}

static tenon_code encode(void *self, tenon_str text, tenon_encode_flags flags, tenon_tokens_sink out, tenon_error_sink error) {
    (void)self, (void)error;
    uint32_t id = BEGIN;
    tenon_tokens one = {&id, 1};
    if (flags & TENON_ADD_SPECIAL)
        out.put(out.self, &one);
    for (size_t at = 0; at < text.len;) {
        uint32_t control = flags & TENON_PARSE_CONTROL ? control_at(text.ptr + at, text.len - at) : 0;
        id = control ? control : (uint8_t)text.ptr[at];
        at += control ? strlen(CONTROL[control - BEGIN]) : 1;
        out.put(out.self, &one);
    }
    return TENON_OK;
}

static tenon_code vocabulary(void *self, tenon_vocabulary_sink out, tenon_error_sink error) {
    (void)self, (void)error;
    for (uint32_t id = 0; id < VOCAB_SIZE; id++) {
        char byte = (char)id;
        const char *bytes = id < BEGIN ? &byte : CONTROL[id - BEGIN];
        tenon_token_kind kind = id < BEGIN ? TENON_BYTE : TENON_CONTROL;
        tenon_token token = {sizeof token, (const uint8_t *)bytes, id < BEGIN ? 1 : strlen(bytes), kind};
        out.put(out.self, &token);
    }
    return TENON_OK;
}

static const tenon_tokenizer_vtable TOKENIZER = {
    .size = sizeof TOKENIZER, .drop = release, .encode = encode, .vocabulary = vocabulary};

/* ---- The session: the KV of a sequence is its tokens ---- */

typedef struct {
    uint32_t len, tokens[CONTEXT_LENGTH];
} ngram_sequence;

typedef struct {
    ngram_model *model;
    tenon_session_info granted;
    const volatile uint32_t *interrupt;
    uint32_t rows;
    float *logits;              /* [max_rows, VOCAB_SIZE], behind the sequences */
    ngram_sequence sequences[]; /* [max_sequences] */
} ngram_session;

static void drop_session(void *self) {
    ngram_session *session = self;
    release(session->model);
    free(session);
}

static void session_info(void *self, tenon_session_info *out) {
    *out = ((const ngram_session *)self)->granted;
}

static tenon_code store(ngram_session *session, const tenon_span *span, const uint32_t *tokens) {
    if (span->seq >= session->granted.max_sequences || span->rows > session->granted.max_rows - session->rows)
        return TENON_INVALID;
    ngram_sequence *sequence = &session->sequences[span->seq];
    if (span->start != sequence->len || span->len > session->granted.context_length - sequence->len || span->rows > span->len)
        return span->start != sequence->len ? TENON_BAD_POSITION : TENON_INVALID;
    memcpy(sequence->tokens + sequence->len, tokens, span->len * sizeof *tokens);
    sequence->len += span->len;
    return TENON_OK;
}

static tenon_code forward(void *self, const tenon_batch *batch, tenon_span_out *out, tenon_error_sink error) {
    ngram_session *session = self;
    const uint32_t *tokens = batch->tokens;
    session->rows = 0;
    if (tenon_is_set(session->interrupt))
        return tenon_fail(error, TENON_CANCELLED, "the host stopped the call");
    for (size_t i = 0; i < batch->spans_len; i++) {
        const tenon_span *span = &batch->spans[i];
        out[i].status = store(session, span, tokens);
        out[i].first_row = session->rows;
        tokens += span->len;
        for (uint32_t row = span->rows; out[i].status == TENON_OK && row-- > 0;) {
            const ngram_sequence *sequence = &session->sequences[span->seq];
            float *logits = session->logits + (size_t)VOCAB_SIZE * session->rows++;
            predict(session->model, sequence->tokens, sequence->len - row, logits);
        }
    }
    return TENON_OK;
}

static tenon_code logits(void *self, uint32_t row, const float **out, tenon_error_sink error) {
    ngram_session *session = self;
    if (row >= session->rows)
        return tenon_fail(error, TENON_INVALID, "the last batch has no such row of logits");
    *out = session->logits + (size_t)VOCAB_SIZE * row;
    return TENON_OK;
}

static tenon_code fork_sequence(void *self, uint32_t src, uint32_t dst, uint32_t len, tenon_error_sink error) {
    ngram_session *session = self;
    ngram_sequence *from = &session->sequences[src], *to = &session->sequences[dst];
    if ((src > dst ? src : dst) >= session->granted.max_sequences || to->len != 0 || from->len < len)
        return tenon_fail(error, TENON_INVALID, "these sequences cannot be forked");
    memcpy(to->tokens, from->tokens, len * sizeof *to->tokens);
    to->len = len;
    return TENON_OK;
}

static tenon_code truncate_sequence(void *self, uint32_t seq, uint32_t len, tenon_error_sink error) {
    ngram_session *session = self;
    (void)error;
    if (seq < session->granted.max_sequences && session->sequences[seq].len > len)
        session->sequences[seq].len = len;
    return TENON_OK;
}

static void free_sequence(void *self, uint32_t seq) {
    truncate_sequence(self, seq, 0, (tenon_error_sink){NULL, NULL});
}

static const tenon_session_vtable SESSION = {
    .size = sizeof SESSION, .drop = drop_session, .info = session_info, .forward = forward, .logits = logits,
    .fork = fork_sequence, .truncate = truncate_sequence, .free = free_sequence};

/* ---- The model object ---- */

static tenon_code model_info(void *self, tenon_model_info_sink out, tenon_error_sink error) {
    (void)error;
    tenon_model_info info = {
        .size = sizeof info, .architecture = TENON_STR("ngram"), .parameters = ((ngram_model *)self)->text_bytes,
        .weight_bytes = sizeof(ngram_model), .context_length = CONTEXT_LENGTH, .vocab_size = VOCAB_SIZE,
        .logits_width = VOCAB_SIZE, .has_bos = 1, .bos = BEGIN, .eos = {&(uint32_t){END}, 1},
        .chat_template = TENON_STR(CHAT_TEMPLATE), .capabilities = TENON_CANONICAL_TOKENIZER};
    out.put(out.self, &info);
    return TENON_OK;
}

static tenon_code make_tokenizer(void *self, tenon_tokenizer *out, tenon_error_sink error) {
    (void)error;
    *out = (tenon_tokenizer){shared(self), &TOKENIZER};
    return TENON_OK;
}

static tenon_code make_session(void *self, const tenon_session_args *args, tenon_session *out, tenon_error_sink error) {
    size_t sequences = args->max_sequences * sizeof(ngram_sequence), row = VOCAB_SIZE * sizeof(float);
    ngram_session *session = calloc(1, sizeof *session + sequences + args->max_batch_tokens * row);
    if (session == NULL)
        return tenon_fail(error, TENON_NO_MEMORY, "there is no memory for a session: ask for fewer sequences");
    int shorter = args->context_length > 0 && args->context_length < CONTEXT_LENGTH;
    session->granted = (tenon_session_info){
        .max_sequences = args->max_sequences, .kv_tokens = args->kv_tokens > 0 ? args->kv_tokens : TENON_UNLIMITED,
        .context_length = shorter ? args->context_length : CONTEXT_LENGTH, .max_batch_tokens = args->max_batch_tokens,
        .max_rows = args->max_batch_tokens, .max_rollback = TENON_UNLIMITED, .fork_any_len = 1};
    session->interrupt = args->interrupt;
    session->logits = (float *)(session->sequences + args->max_sequences);
    session->model = shared(self);
    *out = (tenon_session){session, &SESSION};
    return TENON_OK;
}

static const tenon_model_vtable MODEL = {
    .size = sizeof MODEL, .drop = release, .info = model_info, .tokenizer = make_tokenizer, .session = make_session};

/* ---- The backend ---- */

static FILE *opened(tenon_str path) {
    char name[4096];
    snprintf(name, sizeof name, "%.*s", (int)path.len, path.ptr);
    return fopen(name, "rb");
}

static void supports(void *self, tenon_str path, tenon_support_sink out) {
    (void)self;
    int named = path.len > 6 && memcmp(path.ptr + path.len - 6, ".ngram", 6) == 0;
    FILE *file = named ? opened(path) : NULL;
    tenon_support support = {.size = sizeof support, .score = file != NULL ? 100 : 0};
    support.reason = tenon_str_of(file != NULL ? "a text to count" : named ? "cannot be opened" : "not a .ngram file");
    if (file != NULL)
        fclose(file);
    out.put(out.self, &support);
}

/* Fails with a sentence that begins with a name. */
static tenon_code refuse(tenon_error_sink error, tenon_code code, tenon_str name, const char *why) {
    char message[4200];
    snprintf(message, sizeof message, "%.*s %s", (int)name.len, name.ptr, why);
    return tenon_fail(error, code, message);
}

static tenon_code load(void *self, const tenon_load_args *args, tenon_progress progress, tenon_model *out, tenon_error_sink error) {
    (void)self;
    if (!progress.vtable->report(progress.self, -1.0f, tenon_str_of("counting")))
        return tenon_fail(error, TENON_CANCELLED, "the host stopped the call");
    if (args->quantize.ptr != NULL)
        return tenon_fail(error, TENON_UNSUPPORTED, "n-grams have one level only: leave out `quantize`");
    for (size_t i = 0; i < args->devices.len; i++) {
        tenon_str device = args->devices.ptr[i];
        if (device.len != 3 || memcmp(device.ptr, "cpu", 3) != 0)
            return refuse(error, TENON_UNSUPPORTED, device, "is no device of this plugin, which has only cpu");
    }
    FILE *file = opened(args->path);
    if (file == NULL)
        return refuse(error, TENON_IO, args->path, "cannot be opened: check the path");
    ngram_model *model = calloc(1, sizeof *model);
    int whole = model != NULL && count(model, file);
    fclose(file);
    if (model == NULL)
        return tenon_fail(error, TENON_NO_MEMORY, "there is no memory for the counts");
    if (!whole) {
        free(model);
        return refuse(error, TENON_INVALID, args->path, "is empty or ends within a line: copy it again");
    }
    *out = (tenon_model){shared(model), &MODEL};
    return TENON_OK;
}

static const tenon_backend_vtable BACKEND = {.size = sizeof BACKEND, .supports = supports, .load = load};

static tenon_code init(tenon_host host, tenon_str options, tenon_backend *out, tenon_error_sink error) {
    (void)host, (void)options, (void)error;
    *out = (tenon_backend){NULL, &BACKEND};
    return TENON_OK;
}

/* By this schema the host refuses options of the plugin and of its models: there are none. */
#define NO_OPTIONS TENON_STR("{\"type\": \"object\", \"additionalProperties\": false}")
static const tenon_key_value META[] = {{TENON_STR("options_schema"), NO_OPTIONS}, {TENON_STR("model_options_schema"), NO_OPTIONS}};

static const tenon_plugin PLUGIN = {
    .size = sizeof PLUGIN, .abi_major = TENON_ABI_MAJOR, .abi_minor = TENON_ABI_MINOR, .id = TENON_STR("org.tenon.ngram-c"),
    .name = TENON_STR("N-grams in C"), .version = TENON_STR("0.1.0"), .license = TENON_STR("Apache-2.0"), .meta = {META, 2},
    .init = init};

const tenon_plugin *tenon_plugin_c_v1(void) {
    return &PLUGIN;
}
