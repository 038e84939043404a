//! The layout of every struct, as numbers. The compiler compares them with Rust's structs here, and with C's in
//! `tenon_plugin.h`. A test compares the two lists.

use std::mem::{offset_of, size_of};

use super::*;
use crate::{
    Batch, KvStats, SampleParams, SampleRequest, Sampled, SessionInfoRecord, Span, SpanOut,
    ThreadPlan, TokenBias, TokenCount, TokenLogprob,
};

macro_rules! layouts {
    ($($c:ident = $rust:ty: $size:literal { $($field:ident: $offset:literal),* })*) => {
        $(const _: () = {
            assert!(size_of::<$rust>() == $size);
            $(assert!(offset_of!($rust, $field) == $offset);)*
        };)*

        /// Lines of the header that must be there.
        #[doc(hidden)]
        pub const LAYOUT_LINES: &[&str] = &[$(
            concat!("TENON_SIZE(", stringify!($c), ", ", $size, ");"),
            $(concat!("TENON_AT(", stringify!($c), ", ", stringify!($field), ", ", $offset, ");"),)*
        )*];
    };
}

layouts! {
    tenon_str = Str: 16 {}
    tenon_strs = Strs: 16 {}
    tenon_tokens = Tokens: 16 {}
    tenon_key_value = KeyValue: 32 { key: 0, value: 16 }
    tenon_meta = Meta: 16 {}
    tenon_error = Error: 40 { message: 8, meta: 24 }
    tenon_device = Device: 72 { id: 8, name: 24, memory_bytes: 40, free_bytes: 48, meta: 56 }
    tenon_support = Support: 48 { reason: 8, score: 24, meta: 32 }
    tenon_estimate = Estimate: 72 { device: 8, weight_bytes: 24, kv_bytes_per_token: 32, sequence_bytes: 40, compute_bytes: 48, meta: 56 }
    tenon_model_info = ModelInfo: 208 { architecture: 8, parameters: 24, weight_bytes: 32, context_length: 40, vocab_size: 44, logits_width: 48, has_bos: 52, bos: 56, fallback_tensors: 60, eos: 64, chat_template: 80, tool_chat_template: 96, quantization: 112, source_quantization: 128, requantize_levels: 144, capabilities: 160, recommended: 168, temperature: 172, top_p: 176, min_p: 180, top_k: 184, repetition_penalty: 188, meta: 192 }
    tenon_token = Token: 32 { bytes: 8, bytes_len: 16, kind: 24 }
    tenon_embedder_info = EmbedderInfo: 48 { dimensions: 8, max_tokens: 12, pooling: 16, meta: 32 }
    tenon_error_sink = Sink<Error>: 16 {}
    tenon_device_sink = Sink<Device>: 16 {}
    tenon_support_sink = Sink<Support>: 16 {}
    tenon_estimate_sink = Sink<Estimate>: 16 {}
    tenon_model_info_sink = Sink<ModelInfo>: 16 {}
    tenon_tokens_sink = Sink<Tokens>: 16 {}
    tenon_vocabulary_sink = Sink<Token>: 16 {}
    tenon_embedder_info_sink = Sink<EmbedderInfo>: 16 {}
    tenon_host_vtable = HostVtable: 32 { log: 8, threads: 16, cache_dir: 24 }
    tenon_host = Host: 16 {}
    tenon_progress_vtable = ProgressVtable: 16 { report: 8 }
    tenon_progress = Progress: 16 {}
    tenon_load_args = LoadArgs: 96 { path: 8, devices: 24, quantize: 40, options: 56, threads: 72, meta: 80 }
    tenon_session_args = SessionArgs: 56 { max_sequences: 8, kv_tokens: 12, context_length: 16, max_batch_tokens: 20, threads: 24, interrupt: 32, meta: 40 }
    tenon_span = Span: 48 { seq: 0, start: 4, len: 8, rows: 12, flags: 16, reserved: 24, hints: 40 }
    tenon_batch = Batch<'_>: 80 { tokens: 0, spans: 16, reserved: 32, hints: 64 }
    tenon_span_out = SpanOut: 32 { status: 0, first_row: 4, reserved: 8, hints: 24 }
    tenon_kv_stats = KvStats: 24 { used_tokens: 0, total_tokens: 4, hints: 8 }
    tenon_thread_plan = ThreadPlan: 48 { decode: 0, prefill: 4, decode_poll: 8, prefill_poll: 12, reserved: 16, hints: 32 }
    tenon_session_info = SessionInfoRecord: 96 { max_sequences: 0, kv_tokens: 4, context_length: 8, max_batch_tokens: 12, max_rows: 16, max_rollback: 20, fork_any_len: 24, costly_idle_tokens: 28, reserved: 32, hints: 64 }
    tenon_sample_params = SampleParams: 64 { temperature: 0, top_p: 4, min_p: 8, typical_p: 12, repetition_penalty: 16, frequency_penalty: 20, presence_penalty: 24, top_k: 28, reserved: 32 }
    tenon_token_bias = TokenBias: 8 { token: 0, bias: 4 }
    tenon_token_count = TokenCount: 12 { token: 0, prompt: 4, output: 8 }
    tenon_token_logprob = TokenLogprob: 8 { token: 0, logprob: 4 }
    tenon_sample_request = SampleRequest<'_>: 200 { row: 0, forced: 4, draw: 8, params: 16, mask: 80, bias: 96, counts: 112, appended: 128, logprob: 144, top_logprobs: 148, reserved: 152, hints: 184 }
    tenon_sampled = Sampled<'_>: 56 { token: 0, logprob: 4, top: 8, top_len: 24, status: 28, reserved: 32, hints: 48 }
    tenon_session_vtable = SessionVtable: 88 { drop: 8, info: 16, forward: 24, logits: 32, sample: 40, fork: 48, truncate: 56, free: 64, kv_stats: 72, set_threads: 80 }
    tenon_session = Session: 16 {}
    tenon_tokenizer_vtable = TokenizerVtable: 32 { drop: 8, encode: 16, vocabulary: 24 }
    tenon_tokenizer = Tokenizer: 16 {}
    tenon_embedder_vtable = EmbedderVtable: 32 { drop: 8, info: 16, embed: 24 }
    tenon_embedder = Embedder: 16 {}
    tenon_model_vtable = ModelVtable: 56 { drop: 8, info: 16, tokenizer: 24, session: 32, requantize: 40, embedder: 48 }
    tenon_model = Model: 16 {}
    tenon_backend_vtable = BackendVtable: 48 { devices: 8, supports: 16, estimate: 24, load: 32, quantize: 40 }
    tenon_backend = Backend: 16 {}
    tenon_plugin = Plugin: 136 { abi_major: 8, abi_minor: 12, id: 16, name: 32, version: 48, vendor: 64, license: 80, build: 96, meta: 112, init: 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_a_pointer_and_a_length() {
        let mask = [1, 2, 3];
        let request = SampleRequest::new(0).with_mask(&mask);
        // SAFETY: the struct is larger than these words, and all of them are initialized.
        let words = unsafe { (&raw const request).cast::<[usize; 12]>().read() };
        assert_eq!(words[10..], [mask.as_ptr() as usize, 3]);
        let mut top = [TokenLogprob::default(); 2];
        let address = top.as_ptr() as usize;
        let sampled = Sampled::new(&mut top);
        // SAFETY: as above.
        let words = unsafe { (&raw const sampled).cast::<[usize; 3]>().read() };
        assert_eq!(words[1..], [address, 2]);
    }
}
