//! Prompts: texts of a given length that no server has seen before.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use serde_json::{Value, json};

/// Common words, each of them one token in most vocabularies.
const WORDS: [&str; 64] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world",
    "school", "state", "family", "student", "group", "country", "problem", "hand", "part", "place",
    "case", "week", "company", "system", "program", "question", "work", "night", "point", "home",
    "water", "room", "mother", "area", "money", "story", "fact", "month", "lot", "right", "study",
    "book", "eye", "job", "word", "business", "issue", "side", "kind", "head", "house", "service",
    "friend", "father", "power", "hour", "game", "line", "end", "member", "law", "car", "city",
];
const TASK: &str = "Write a very long story about all of this.";
const TASK_WORDS: u32 = 9;
/// Records in the copied JSON document, of about 25 tokens each.
const COPIED_RECORDS: u32 = 12;

/// A source of random texts. The same seed gives the same texts, so that several servers can get the same ones.
pub struct RandomPrompts {
    seed: u64,
    drawn: u64,
}

impl RandomPrompts {
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// A task of `words` words. Its first words are random, so no server has it cached.
    pub fn story(&mut self, words: u32) -> String {
        let subject = self.words(words.saturating_sub(TASK_WORDS));
        format!("{subject}. {TASK}")
    }

    /// Random words.
    pub fn words(&mut self, count: u32) -> String {
        let words: Vec<_> = (0..count.max(1)).map(|_| self.word()).collect();
        words.join(" ")
    }

    /// A task to copy a JSON document with one change.
    pub fn copy(&mut self) -> String {
        let people: Vec<_> = (1..=COPIED_RECORDS).map(|id| self.record(id)).collect();
        format!(
            "{}\n\nCopy this JSON, but change the age of the last person to 99. Answer with the JSON only.",
            Value::from(people)
        )
    }

    fn record(&mut self, id: u32) -> Value {
        json!({"id": id, "name": self.word(), "age": 20 + id, "city": self.word(), "job": self.word()})
    }

    fn word(&mut self) -> &'static str {
        self.drawn += 1;
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one((self.seed, self.drawn));
        WORDS[(hash % WORDS.len() as u64) as usize]
    }
}

/// A JSON schema whose answers are so long that only `max_tokens` ends them.
pub fn endless_list() -> Value {
    let text = json!({"type": "string"});
    let person = json!({
        "type": "object",
        "properties": {"name": text, "age": {"type": "integer"}, "city": text},
        "required": ["name", "age", "city"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {"people": {"type": "array", "items": person, "minItems": 1000}},
        "required": ["people"],
        "additionalProperties": false,
    })
}

/// Converts tokens into words: a linear model of how many tokens a server makes of words.
pub struct Sizing {
    tokens_per_word: f64,
    /// Tokens that the chat template adds around the words.
    overhead: f64,
}

impl Sizing {
    /// Fits the model to two prompts, each given as words and tokens.
    pub fn new((few, few_tokens): (u32, u32), (many, many_tokens): (u32, u32)) -> Self {
        let tokens = f64::from(many_tokens) - f64::from(few_tokens);
        let tokens_per_word = tokens / f64::from(many - few);
        Self {
            tokens_per_word,
            overhead: f64::from(few_tokens) - f64::from(few) * tokens_per_word,
        }
    }

    /// The number of words that make a prompt of about `tokens` tokens.
    pub fn words(&self, tokens: u32) -> u32 {
        ((f64::from(tokens) - self.overhead) / self.tokens_per_word).max(1.0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_has_as_many_words_as_asked_for() {
        let story = RandomPrompts::new(1).story(40);
        assert_eq!(story.split(' ').count(), 40);
    }

    #[test]
    fn the_same_seed_gives_the_same_texts_and_no_text_comes_twice() {
        let mut prompts = RandomPrompts::new(7);
        let (first, second) = (prompts.story(40), prompts.story(40));
        assert_eq!(RandomPrompts::new(7).story(40), first);
        assert_ne!(first, second);
        assert_ne!(RandomPrompts::new(8).story(40), first);
    }

    #[test]
    fn sizes_follow_from_two_prompts() {
        let sizing = Sizing::new((50, 120), (150, 320));
        assert_eq!(sizing.words(1020), 500);
        assert_eq!(sizing.words(3), 1);
    }
}
