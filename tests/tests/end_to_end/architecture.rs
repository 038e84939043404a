//! Checks that ARCHITECTURE.md describes the ways of requests and tokens as they are.

use std::{fs, path::Path};

/// How the lists of stops begin, each with the most stops that it may have.
const WAYS: [(&str, usize); 2] = [
    ("The stops of a chat, ", 12),
    ("The stops of a sampled token, ", 10),
];

#[test]
fn the_stops_of_requests_and_tokens_are_few_and_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    for (begin, most) in WAYS {
        let (_, rest) = page.split_once(begin).unwrap();
        let list = rest.split("\n\n").nth(1).unwrap();
        let stops = list.lines().filter(|line| !line.starts_with(' '));
        let mut count = 0;
        for (index, stop) in stops.enumerate() {
            let (place, _) = stop.split_once("`: ").unwrap();
            let (number, names) = place.split_once(" `").unwrap();
            assert_eq!(number, format!("{}.", index + 1));
            let mut names = names.split('`').step_by(2);
            let file = root.join("host/src").join(names.next().unwrap());
            let code = fs::read_to_string(&file).expect(place);
            let functions: Vec<_> = names.collect();
            assert!(!functions.is_empty(), "{place}");
            for function in functions {
                assert!(has_function(&code, function), "{place}");
            }
            count += 1;
        }
        assert!((1..=most).contains(&count), "{begin} {count}");
    }
}

/// Whether this code has a function, which is named with its type if it is a method.
fn has_function(code: &str, name: &str) -> bool {
    let Some((of, name)) = name.split_once("::") else {
        return defines(code, name);
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let blocks = code.split("\nimpl").skip(1);
    let blocks = blocks.filter_map(|block| block.split("\n}").next()?.split_once('{'));
    let mut blocks = blocks.filter(|(head, _)| head.split(|c| !is_word(c)).any(|word| word == of));
    blocks.any(|(_, body)| defines(body, name))
}

fn defines(code: &str, name: &str) -> bool {
    let mut definitions = code.split("fn ").skip(1);
    definitions.any(|rest| {
        let rest = rest.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['(', '<']))
    })
}
