//! Runs the same tests with several backends.

/// Makes tests for every backend from asynchronous functions of the calling file that take a [`Backend`](crate::Backend).
/// The modules have `smollm2` in their names, so that their tests run one at a time.
#[macro_export]
macro_rules! with_every_backend {
    ($tests:tt) => {
        $crate::with_backend!(smollm2_llama_cpp, LlamaCpp, $tests);
        $crate::with_backend!(smollm2_candle_quantized, CandleQuantized, $tests);
        $crate::with_backend!(smollm2_candle, Candle, $tests);
    };
}

/// Makes such tests for one backend, in a module of their own.
#[macro_export]
macro_rules! with_backend {
    ($module:ident, $backend:ident, [$($test:ident),* $(,)?]) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test($crate::Backend::$backend).await;
                }
            )*
        }
    };
}
