// Rust cannot catch C++ exceptions, and llama.cpp lets some through. These functions turn them into a status and a text.

#include <llama.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>

namespace {

// Lower than every status of llama.cpp. `shim.rs` has the same numbers.
constexpr int32_t THREW = -1000;
constexpr int32_t OUT_OF_MEMORY = -1001;

template <typename Call>
int32_t guarded(char * error, size_t error_size, Call call) {
    try {
        return call();
    } catch (const std::bad_alloc &) {
        std::snprintf(error, error_size, "out of memory");
        return OUT_OF_MEMORY;
    } catch (const std::exception & thrown) {
        std::snprintf(error, error_size, "%s", thrown.what());
    } catch (...) {
        std::snprintf(error, error_size, "an unknown exception");
    }
    return THREW;
}

ggml_abort_callback_t report_fatal = nullptr;

// Whether llama.cpp reads a file on this thread. A failed assertion is then a fault of the file, not of llama.cpp.
thread_local bool reads_file = false;

// The callers that read a file catch exceptions. A return from here would end the process.
void on_abort(const char * reason) {
    if (reads_file) {
        throw std::runtime_error(reason);
    }
    report_fatal(reason);
}

bool (*report_text)(ggml_log_level level, const char * text) = nullptr;

// llama.cpp has no way to cancel quantizing, but it logs each tensor: an exception at a line of the log ends the call.
void on_text(ggml_log_level level, const char * text, void *) {
    if (!report_text(level, text)) {
        throw std::runtime_error("cancelled");
    }
}

[[noreturn]] void on_terminate() {
    try {
        if (std::current_exception()) {
            std::rethrow_exception(std::current_exception());
        }
        report_fatal("terminated without an exception");
    } catch (const std::exception & thrown) {
        report_fatal(thrown.what());
    } catch (...) {
        report_fatal("an unknown exception");
    }
    std::abort();
}

}  // namespace

extern "C" {

int32_t tenon_decode(llama_context * context, const llama_batch * batch, char * error, size_t error_size) {
    return guarded(error, error_size, [&] { return llama_decode(context, *batch); });
}

int32_t tenon_tokenize(
        const llama_vocab * vocab,
        const char * text,
        int32_t text_len,
        llama_token * tokens,
        int32_t tokens_max,
        bool add_special,
        bool parse_special,
        char * error,
        size_t error_size) {
    return guarded(error, error_size, [&] {
        return llama_tokenize(vocab, text, text_len, tokens, tokens_max, add_special, parse_special);
    });
}

// Returns 1 if it failed. `llama_model_quantize` also logs the failure.
int32_t tenon_quantize(
        const char * input,
        const char * output,
        const llama_model_quantize_params * params,
        char * error,
        size_t error_size) {
    return guarded(error, error_size, [&] {
        return static_cast<int32_t>(llama_model_quantize(input, output, params));
    });
}

// From now on `report` gets the log. It may return `false` only inside of `tenon_quantize`.
void tenon_on_text(bool (*report)(ggml_log_level level, const char * text)) {
    report_text = report;
    llama_log_set(on_text, nullptr);
}

// Whether failed assertions on this thread become exceptions from now on.
void tenon_reads_file(bool reads) {
    reads_file = reads;
}

// Calls `report` before the process ends. Replaces ggml's own handlers, which would fork a debugger to print a backtrace.
void tenon_on_fatal(ggml_abort_callback_t report) {
    report_fatal = report;
    ggml_set_abort_callback(on_abort);
    std::set_terminate(on_terminate);
}

}
