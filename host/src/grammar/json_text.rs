//! Rewrites a grammar of texts into a grammar of the same texts as they are written within a string of JSON.
//!
//! In JSON some characters are written as an escape. So every literal and every regular expression of the grammar is
//! replaced by that of its escaped form. The rules between them stay as they are.

use regex_syntax::{
    ParserBuilder,
    hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition},
};
use serde_json::Value;

use super::text::quoted;

/// Terminals of Lark's common grammars that have characters with escapes.
const COMMON: &[(&str, &str)] = &[
    ("CR", r"\r"),
    ("LF", r"\n"),
    ("NEWLINE", r"(\r?\n)+"),
    ("WS", r"[ \t\f\r\n]+"),
    ("WS_INLINE", r"[ \t]+"),
    ("ESCAPED_STRING", r#""([^"\\]|\\.)*""#),
];

/// Terminals of Lark's common grammars without such characters.
const PLAIN: &[&str] = &[
    "DIGIT",
    "HEXDIGIT",
    "INT",
    "SIGNED_INT",
    "DECIMAL",
    "_EXP",
    "FLOAT",
    "SIGNED_FLOAT",
    "NUMBER",
    "SIGNED_NUMBER",
    "LCASE_LETTER",
    "UCASE_LETTER",
    "LETTER",
    "WORD",
    "CNAME",
];

/// The grammar, in llguidance's variant of Lark, of the texts of this one within a string of JSON.
///
/// # Errors
/// The grammar has something for which that is not possible.
pub fn in_json(lark: &str) -> Result<String, String> {
    let mut rest = lark;
    let mut written = String::with_capacity(2 * lark.len());
    let mut depth = 0;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '"' => literal(rest, &mut written)?,
            '/' if !rest.starts_with("//") => regex(rest, &mut written)?,
            '/' | '#' => rest.find('\n').unwrap_or(rest.len()),
            '%' => directive(rest, &mut written)?,
            '~' if !is_count(&rest[1..]) => return Err("it has '~', a complement".to_owned()),
            '<' | '@' => return Err(format!("it has '{next}'")),
            '{' | '}' => {
                depth += if next == '{' { 1 } else { -1 };
                written.push(next);
                1
            }
            other => {
                written.push(other);
                other.len_utf8()
            }
        };
        if depth < 0 {
            break;
        }
        rest = &rest[length..];
    }
    match depth {
        0 => Ok(written),
        _ => Err("its braces do not match".to_owned()),
    }
}

/// Whether a number of repetitions follows.
fn is_count(rest: &str) -> bool {
    rest.trim_start().starts_with(|c: char| c.is_ascii_digit())
}

/// Writes a literal or a range of characters. Returns its length.
fn literal(text: &str, written: &mut String) -> Result<usize, String> {
    let (first, length) = string(text)?;
    let behind = text[length..].trim_start();
    if let Some(second) = behind.strip_prefix("..") {
        let second = second.trim_start();
        let before = text.len() - second.len();
        let (last, length) = string(second)?;
        let [Some(start), Some(end)] = [&first, &last].map(|end| end.chars().next()) else {
            return Err("a range has an empty end".to_owned());
        };
        let class = ClassUnicode::new([ClassUnicodeRange::new(start, end)]);
        written.push_str(&regex_literal(&class_in_json(&class)));
        return Ok(before + length);
    }
    // An escape has no capital form, so a literal in any case is not one literal.
    let Some(_) = text[length..].strip_prefix('i') else {
        written.push_str(&quoted(&escaped(&first)));
        return Ok(length);
    };
    let pattern = regex_syntax::escape(&first);
    written.push_str(&regex_literal(&pattern_in_json(&pattern, "i")?));
    Ok(length + 1)
}

/// Reads a string. Returns it with the length of its notation.
fn string(text: &str) -> Result<(String, usize), String> {
    let length = end_of(text, '"').ok_or("a string does not end")?;
    let value = serde_json::from_str(&text[..length]);
    let value =
        value.map_err(|error| format!("the string {} is wrong: {error}", &text[..length]))?;
    Ok((value, length))
}

/// The length of a text that begins and ends with this mark. A backslash takes the meaning from the next character.
fn end_of(text: &str, mark: char) -> Option<usize> {
    let mut is_escaped = false;
    let mut inner = text.char_indices().skip(1);
    let end = inner.find(|&(_, c)| {
        let was_escaped = std::mem::take(&mut is_escaped);
        is_escaped = c == '\\' && !was_escaped;
        c == mark && !was_escaped
    });
    end.map(|(at, _)| at + mark.len_utf8())
}

/// Writes a regular expression. Returns its length.
fn regex(text: &str, written: &mut String) -> Result<usize, String> {
    let length = end_of(text, '/').ok_or("a regular expression does not end")?;
    let rest = &text[length..];
    let flags = &rest[..rest
        .find(|c: char| !c.is_ascii_lowercase())
        .unwrap_or(rest.len())];
    let pattern = &text[1..length - 1];
    written.push_str(&regex_literal(&pattern_in_json(pattern, flags)?));
    Ok(length + flags.len())
}

fn regex_literal(hir: &Hir) -> String {
    format!("/{}/", hir.to_string().replace('/', r"\/"))
}

fn pattern_in_json(pattern: &str, flags: &str) -> Result<Hir, String> {
    let parser = ParserBuilder::new()
        .case_insensitive(flags.contains('i'))
        .dot_matches_new_line(flags.contains('s'))
        .ignore_whitespace(flags.contains('x'))
        .build()
        .parse(pattern);
    let hir =
        parser.map_err(|error| format!("the regular expression {pattern} is wrong: {error}"))?;
    hir_in_json(&hir).ok_or_else(|| {
        format!("the regular expression {pattern} has an anchor, a boundary or bytes")
    })
}

/// None for what is not possible.
fn hir_in_json(hir: &Hir) -> Option<Hir> {
    let all = |parts: &[Hir]| parts.iter().map(hir_in_json).collect::<Option<Vec<_>>>();
    Some(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            Hir::literal(escaped(text).into_bytes())
        }
        HirKind::Class(Class::Unicode(class)) => class_in_json(class),
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => return None,
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            sub: Box::new(hir_in_json(&repetition.sub)?),
            ..repetition.clone()
        }),
        HirKind::Capture(capture) => hir_in_json(&capture.sub)?,
        HirKind::Concat(parts) => Hir::concat(all(parts)?),
        HirKind::Alternation(parts) => Hir::alternation(all(parts)?),
    })
}

/// One of these characters: as it is, or as its escape.
fn class_in_json(class: &ClassUnicode) -> Hir {
    let mut special = ClassUnicode::new([
        ClassUnicodeRange::new('\0', '\x1f'),
        ClassUnicodeRange::new('"', '"'),
        ClassUnicodeRange::new('\\', '\\'),
    ]);
    let mut plain = class.clone();
    plain.difference(&special);
    special.intersect(class);
    let characters = special.iter().flat_map(|range| range.start()..=range.end());
    let escapes = characters.map(|c| Hir::literal(escaped(&c.to_string()).into_bytes()));
    let plain = Hir::class(Class::Unicode(plain));
    Hir::alternation([plain].into_iter().chain(escapes).collect())
}

/// A text as it is written between the quotation marks of a string of JSON.
fn escaped(text: &str) -> String {
    let string = Value::from(text).to_string();
    string[1..string.len() - 1].to_owned()
}

/// Writes a line that begins with `%`. Returns its length.
fn directive(text: &str, written: &mut String) -> Result<usize, String> {
    let line = text.lines().next().unwrap_or_default();
    if line.starts_with("%ignore") {
        written.push_str("%ignore");
        return Ok("%ignore".len());
    }
    let imported = line.strip_prefix("%import").map(str::trim);
    let imported = imported.and_then(|names| names.strip_prefix("common"));
    let Some(names) = imported else {
        return Err(format!("it has the line {line}"));
    };
    if let Some(name) = names.strip_prefix('.') {
        import(name, written)?;
    } else {
        let names = names
            .trim()
            .strip_prefix('(')
            .and_then(|names| names.strip_suffix(')'));
        for name in names.unwrap_or_default().split(',') {
            import(name, written)?;
        }
    }
    Ok(line.len())
}

/// Writes the import of a common terminal, which may have another name here.
fn import(name: &str, written: &mut String) -> Result<(), String> {
    let (name, alias) = name.split_once("->").unwrap_or((name, name));
    let (name, alias) = (name.trim(), alias.trim());
    let common = COMMON.iter().find(|(known, _)| *known == name);
    match common {
        Some((_, pattern)) => {
            let regex = regex_literal(&pattern_in_json(pattern, "")?);
            written.push_str(&format!("{alias}: {regex}\n"));
            Ok(())
        }
        None if PLAIN.contains(&name) => {
            written.push_str(&format!("%import common.{name} -> {alias}\n"));
            Ok(())
        }
        None => Err(format!("it imports {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::{Grammar, Piece, tests::check_fits};

    /// Checks which texts a grammar allows within a string of JSON.
    fn check(lark: &str, fits: &[&str], unfit: &[&str]) {
        let pieces = vec![
            Piece::Text("\"".to_owned()),
            Piece::Lark(in_json(lark).unwrap()),
            Piece::Text("\"".to_owned()),
        ];
        let written = |text: &&str| Value::from(*text).to_string();
        let fits: Vec<String> = fits.iter().map(written).collect();
        let unfit: Vec<String> = unfit.iter().map(written).collect();
        let fits: Vec<&str> = fits.iter().map(String::as_str).collect();
        let unfit: Vec<&str> = unfit.iter().map(String::as_str).collect();
        check_fits(Grammar::Pieces(pieces), &fits, &unfit);
    }

    #[test]
    fn texts_with_escapes_fit_as_before() {
        check(
            "start: \"a\\n\" /[^x]+/ \"\\\"\" // a comment \"\n",
            &["a\nb\"", "a\n\\\"", "a\n\t/é\""],
            &["a\nx\"", "a\n\"", "ab\""],
        );
        check(
            "start: line+\nline: /(.*)/ LF -> line\n%import common.LF\n",
            &["\n", "a \"b\" \\ /\n\n"],
            &["a", "a\r"],
        );
        check("start: \"a\\n\"i", &["A\n", "a\n"], &["a"]);
        check(
            "start: \"!\"..\"~\"",
            &["\"", "\\", "a", "!"],
            &[" ", "\n", "ab"],
        );
        check(
            "start: (WORD WS?)~2..3\n%import common (WORD, WS)\n",
            &["a\tb", "a b c"],
            &["a", "a b c d"],
        );
    }

    #[test]
    fn a_grammar_of_patches_fits_patches() {
        let lark = r#"
start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?
hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?
filename: /(.+)/
add_line: "+" /(.*)/ LF -> line
change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF
%import common.LF
"#;
        let patch = "*** Begin Patch\n*** Update File: a.rs\n@@ fn f()\n-    \"a\\n\"\n+    \"b\"\n*** End Patch";
        check(lark, &[patch], &["*** Begin Patch\n*** End Patch", "Patch"]);
    }

    #[test]
    fn what_has_no_form_in_json_is_refused() {
        for lark in [
            "start: /^a/",
            "start: \"a",
            "start: /a",
            "start: ~A\nA: \"a\"",
            "start: %json {}",
            "start: <|end|>",
            "start: @other",
            "%import python.NAME",
            "%import common.SH_COMMENT",
            "start: \"a\" }",
            "start: \"\\x41\"",
        ] {
            assert!(in_json(lark).is_err(), "{lark}");
        }
    }
}
