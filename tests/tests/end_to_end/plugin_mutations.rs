//! Libraries with seeded random errors, which are the same in every run. Whatever they do, the server serves with a good
//! library.

use std::fs;

use serde_json::json;
use tenon_tests::{PluginFolder, ServerOptions, artifacts};

const ECHO: &str = "tenon_plugin_echo";
/// Number of damaged copies of each kind.
const COPIES: u64 = 12;

type Damage = fn(&mut [u8], &mut fastrand::Rng);

#[tokio::test]
async fn a_server_comes_up_beside_libraries_with_random_errors() {
    let folder = PluginFolder::empty();
    folder.install(ECHO, "a-good-one.so");
    let library = fs::read(artifacts().library(ECHO)).unwrap();
    let kinds: [(&str, Damage); 5] = [
        ("bytes", |library, random| change(library, random, 20)),
        ("headers", |library, random| {
            change(&mut library[..4096], random, 8)
        }),
        ("many", |library, random| change(library, random, 2000)),
        ("bits", |library, random| {
            let at = random.usize(..library.len());
            library[at] ^= 1 << random.u8(..8);
        }),
        ("zeros", |library, random| {
            let at = random.usize(..library.len() - 512);
            library[at..at + 512].fill(0);
        }),
    ];
    for (kind, damage) in kinds {
        for seed in 0..COPIES {
            let mut copy = library.clone();
            damage(&mut copy, &mut fastrand::Rng::with_seed(seed));
            fs::write(folder.path(&format!("{kind}-{seed}.so")), copy).unwrap();
        }
    }

    let mut server = ServerOptions::new(&[])
        .file("a.echo", "")
        .arguments(&["a.echo", "--plugins", folder.path("").to_str().unwrap()])
        .start();
    let client = server.client();
    for text in ["Hi", "and once more"] {
        assert_eq!(client.chat(text, json!({"temperature": 0})).await, text);
    }
}

fn change(library: &mut [u8], random: &mut fastrand::Rng, count: usize) {
    for _ in 0..count {
        let at = random.usize(..library.len());
        library[at] = random.u8(..);
    }
}
