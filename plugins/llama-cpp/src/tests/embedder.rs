use tenon_plugin_api::{Code, EncodeFlags, Interrupt, Model};

use super::smol;

const DIMENSIONS: usize = 576;

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn smollm2_embeds_short_texts_long_ones_and_short_ones_again() {
    let encode = |text: &str| smol().tokenizer().unwrap().encode(text, EncodeFlags::NONE);
    let (short, other) = (encode("The sky is blue.").unwrap(), encode("Ten!").unwrap());
    let long = encode(&"A word and another. ".repeat(80)).unwrap();
    let mut embedder = smol().embedder().unwrap();
    let info = embedder.info();
    assert_eq!((info.dimensions, info.pooling.as_str()), (576, "mean"));
    let mut embed = |texts: &[&[u32]]| {
        let mut out = vec![0.0; texts.len() * DIMENSIONS];
        embedder
            .embed(texts, &Interrupt::default(), &mut out)
            .unwrap();
        out
    };
    let alone = embed(&[&short]);
    let together = embed(&[&other, &long, &short]);
    let again = embed(&[&short]);
    assert_eq!(alone, again, "what went before leaves nothing behind");
    assert!(cosine(&alone, &together[2 * DIMENSIONS..]) > 0.999);
    assert!(cosine(&alone, &together[..DIMENSIONS]) < 0.999);
}

#[test]
fn smollm2_embedding_is_stopped_by_its_interrupt_and_goes_on_later() {
    let mut embedder = smol().embedder().unwrap();
    let mut out = [0.0; DIMENSIONS];
    let stopped = Interrupt::default();
    stopped.set(true);
    let error = embedder.embed(&[&[1, 2, 3]], &stopped, &mut out);
    assert_eq!(error.unwrap_err().code, Code::CANCELLED);
    embedder
        .embed(&[&[1, 2, 3]], &Interrupt::default(), &mut out)
        .unwrap();
    assert!(out.iter().any(|&x| x != 0.0));
}
