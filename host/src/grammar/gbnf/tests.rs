use super::{super::Grammar, *};
use crate::grammar::tests::check_fits;

#[track_caller]
fn check(gbnf: &str, good: &[&str], bad: &[&str]) {
    println!("{}", lark(gbnf).unwrap());
    check_fits(Grammar::Gbnf(gbnf.to_owned()), good, bad);
}

#[track_caller]
fn check_refused(gbnf: &str, expected: &str) {
    let error = lark(gbnf).unwrap_err();
    assert!(error.contains(expected), "{gbnf:?}: {error}");
}

#[test]
fn each_sign_means_what_it_means_there() {
    for (gbnf, good, bad) in [
        (r#"root ::= "a""#, ["a", "a"], ["b", "aa"]),
        (r#"root ::= "a" | "bc""#, ["a", "bc"], ["b", "abc"]),
        (r#"root ::= "ab"*  "c""#, ["c", "ababc"], ["abbc", "ab"]),
        (r#"root ::= [a-c]+"#, ["a", "cab"], ["", "d"]),
        (r#"root ::= [^a-c\n]"#, ["d", "é"], ["b", "\n"]),
        (r#"root ::= [a\-z\]\\]{2}"#, ["a-", "]\\"], ["b-", "a"]),
        (r#"root ::= [-+] [0-9-]"#, ["-1", "+-"], ["1-", "-a"]),
        (r#"root ::= "x"?  "y""#, ["y", "xy"], ["x", "xxy"]),
        (r#"root ::= "x"{2,3}"#, ["xx", "xxx"], ["x", "xxxx"]),
        (r#"root ::= "x"{2,}"#, ["xx", "xxxxx"], ["x", ""]),
        (r#"root ::= "x"{,2} "y""#, ["y", "xxy"], ["xxxy", "x"]),
        (r#"root ::= "x"{0} "y""#, ["y", "y"], ["xy", "x"]),
        (r#"root ::= ("a" "b"){2}"#, ["abab", "abab"], ["aabb", "ab"]),
        (r#"root ::= . "b""#, ["ab", "\nb"], ["b", "abb"]),
        (
            r#"root ::= "\x41\u00e9\U0001F600""#,
            ["Aé😀", "Aé😀"],
            ["A", "Aé"],
        ),
        (
            r#"root ::= "\t\r\n\\\"""#,
            ["\t\r\n\\\"", "\t\r\n\\\""],
            ["\\t", ""],
        ),
        (
            "root ::= \"/\" [/] \"\x7f\"",
            ["//\x7f", "//\x7f"],
            ["/", "//"],
        ),
        (
            "# c\n\nroot ::= # c\n  a b # c\na ::= \"1\"\r\nb::=\"2\" |\n \"3\"\n",
            ["12", "13"],
            ["1", "23"],
        ),
        ("root ::= (\n \"a\"\n | \"b\"\n)\n", ["a", "b"], ["", "ab"]),
        (
            "root ::= \"a\" # c\n # c\n b\n | \"c\"\n\nb ::= \"d\"\n",
            ["ad", "c"],
            ["a", "dc"],
        ),
        (
            "root ::= Item-Of_2*  \"!\"\nItem-Of_2 ::= [a-z] | item\nitem ::= [0-9]",
            ["!", "a1!"],
            ["A!", "a"],
        ),
        (
            "root ::= | \"a\" rest\nrest ::= root",
            ["a", "aaa"],
            ["b", "ab"],
        ),
    ] {
        check(gbnf, &good, &bad);
    }
}

#[test]
fn nothing_is_read_beyond_its_end() {
    let good = ["ab", "aab", "bb", "b", "(ab)", "((b))"];
    check(
        "root ::= [a-z]* \"b\" | \"(\" root \")\"",
        &good,
        &["a", "()", "(a)"],
    );
    let good = ["a", "(a )", "( a  )", "( (a))"];
    check(
        "root ::= \"a\" | \"(\" ws ws root ws \")\"\nws ::= \" \"*",
        &good,
        &[" a", "( "],
    );
    check(
        "root ::= (\"ab\" root)* (\"abc\" | \"d\")",
        &["abc", "d", "abdd", "ababcd"],
        &["ab", "abc d"],
    );
}

#[test]
fn json_is_json() {
    let json = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"#;
    let lark = lark(json).unwrap();
    // Strings and numbers must be read in one piece each, so no rule reads single characters. Otherwise masks would be
    // slow.
    let mut rules = lark.lines().filter(|line| line.starts_with(['r', 'p']));
    assert!(!rules.any(|rule| rule.contains("/[")), "{lark}");
    check(
        json,
        &[
            "{}",
            r#"{"a": [1, -2.5e+3, true ,null], "ü\u00e9\"": {"b":"c" } }"#,
            "{\n  \"a\": 10}",
        ],
        &[
            "[]",
            "{a: 1}",
            r#"{"a": 01}"#,
            r#"{"a": "\x"}"#,
            r#"{"a": }"#,
        ],
    );
}

#[test]
fn a_token_is_a_token() {
    let grammar = Grammar::Gbnf("root ::= <[256]> \"x\"".to_owned());
    let compiled = crate::grammar::tests::compiled(&grammar);
    let mut matcher = compiled.matcher();
    matcher.consume(256).unwrap();
    matcher.consume(120).unwrap();
    assert!(matcher.is_finished());
}

#[test]
fn large_sets_of_characters_are_coarse_but_classes_are_exact() {
    let every_other = |first: u32| (first..first + 600).step_by(2).filter_map(char::from_u32);
    let class: String = every_other(0x4e00).collect();
    let mut set = CharSet::default();
    for character in "ac".chars().chain(class.chars()) {
        set.insert(character, character);
    }
    assert_eq!(set.regex().matches('-').count(), 302);
    let coarse = set.clone().coarse();
    assert!(coarse.regex().matches('-').count() < 100);
    assert!(
        class
            .chars()
            .chain("ac".chars())
            .all(|c| coarse.contains(c))
    );
    assert!(!coarse.contains('b') && !coarse.contains('é'));

    let text: String = every_other(0x8000).collect();
    let grammar = format!("root ::= word \"b\" \"{text}\"\nword ::= [ac{class}]+");
    let [inside, outside] = ["\u{4e02}", "\u{4e03}"];
    check(
        &grammar,
        &[&format!("a{inside}cb{text}"), &format!("{inside}b{text}")],
        &[
            &format!("{outside}b{text}"),
            &format!("{inside}b{text}{inside}"),
        ],
    );
}

#[test]
fn what_is_wrong_is_told_by_line() {
    check_refused("", "'root'");
    check_refused("a ::= \"b\"", "'root'");
    check_refused("root ::= b", "'b' is used");
    check_refused(
        "root ::= \"a\"\nroot ::= \"b\"",
        "line 2: the rule 'root' is there twice",
    );
    check_refused("root ::= \"a", "no end");
    check_refused("root ::= [a", "no end");
    check_refused("root ::= []", "no character");
    check_refused("root ::= [b-a]", "[b-a] is no range");
    check_refused("root ::= (\"a\"", "')' is expected");
    check_refused("root := \"a\"", "':' is expected before '='");
    check_refused(
        "root ::= \"a\" )",
        "the end of the rule is expected before ')'",
    );
    check_refused("root ::= \"a\"{3,2}", "{3,2} is no range");
    check_refused("root ::= \"a\"{9999999999}", "too often");
    check_refused("root ::= \"a\"{,}", "must say how often");
    check_refused("root ::= \"\\q\"", "'\\q' stands for nothing");
    check_refused("root ::= \"\\ud800\"", "not the code of a character");
    check_refused("root ::= !<[1]>", "not supported");
    check_refused("root ::= < a>", "must be written like");
    check_refused("\"a\"", "begin with its name");
    check_refused(
        &format!("root ::= {}", "(".repeat(10_000)),
        "within each other",
    );
    check_refused(
        &format!("root ::= \"a\"{}", "*".repeat(10_000)),
        "repetitions of repetitions",
    );
    check_refused(
        &format!("root ::= {}", "\"a\" ".repeat(20_000)),
        "more than 10000 parts",
    );
}
