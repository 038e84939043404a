//! The grammar of a structural tag, the JSON in which xgrammar, vLLM and SGLang describe the form of an answer.
//!
//! Some parts are text that has no end of its own. They reach to the end of the answer, or to the `end` of the tag around them.

use serde_json::Value;

use crate::{
    grammar::{Pattern, TextRules, relaxed},
    openai::{SchemaStyle, Structure, TagEnd, TagFormat, TagOfFormat},
    tools,
};

/// The largest `min` and `max` of `repeat`.
const MAX_COUNT: u32 = 1000;

/// The patterns of an answer in this format.
///
/// # Errors
/// Says what is wrong with the format.
pub fn patterns(format: &TagFormat) -> Result<Vec<Pattern>, String> {
    part(format, Until::TheEnd)
}

/// Converts structural tags of the older form to the newer one: text in which a structure follows each trigger.
pub fn of_structures(structures: Vec<Structure>, triggers: Vec<String>) -> TagFormat {
    let tag = |structure: Structure| TagOfFormat {
        kind: None,
        begin: structure.begin,
        content: Box::new(TagFormat::JsonSchema {
            json_schema: structure.schema,
            style: SchemaStyle::Json,
        }),
        end: TagEnd::One(structure.end),
    };
    TagFormat::TriggeredTags {
        triggers,
        tags: structures.into_iter().map(tag).collect(),
        at_least_one: false,
        stop_after_first: false,
        excludes: Vec::new(),
    }
}

/// The text that follows a part of the answer.
#[derive(Clone, Copy)]
enum Until<'a> {
    /// No text, because the answer ends.
    TheEnd,
    /// One of these texts.
    Texts(&'a [String]),
    /// Another part, so that the part must have an end of its own.
    More,
}

type Patterns = Result<Vec<Pattern>, String>;

/// The patterns of a part, and of the texts that end it.
fn part(format: &TagFormat, until: Until<'_>) -> Patterns {
    match format {
        TagFormat::ConstString { value } => Ok(closed(vec![text(value)], until)),
        TagFormat::JsonSchema { json_schema, style } => {
            Ok(closed(schema(json_schema, *style)?, until))
        }
        TagFormat::QwenXmlParameter { json_schema } => {
            Ok(closed(schema(json_schema, SchemaStyle::QwenXml)?, until))
        }
        TagFormat::Regex { pattern } => {
            let rules = TextRules::matching(pattern);
            match until {
                Until::More => Ok(vec![Pattern::Free(rules)]),
                until => free(rules, until),
            }
        }
        TagFormat::AnyText { excludes } => free(without(excludes), until),
        TagFormat::Sequence { elements } => sequence(elements, until),
        TagFormat::Or { elements } => {
            let parts = elements.iter().map(|element| part(element, until));
            one_of(parts.collect::<Result<_, _>>()?, "'elements' of 'or'")
        }
        TagFormat::Optional { content } => {
            let alternatives = vec![part(content, until)?, closed(Vec::new(), until)];
            Ok(vec![Pattern::OneOf(alternatives)])
        }
        TagFormat::Plus { content } => repeated(content, 1, None, until),
        TagFormat::Star { content } => repeated(content, 0, None, until),
        TagFormat::Repeat { min, max, content } => {
            let max = u32::try_from(*max).ok();
            if max.is_some_and(|max| max < *min) || max.unwrap_or(*min) > MAX_COUNT {
                return Err(format!(
                    "'min' and 'max' of 'repeat' must be at most {MAX_COUNT}, and 'max' at least 'min'"
                ));
            }
            repeated(content, *min, max, until)
        }
        TagFormat::Tag(one) => Ok(closed(tag(one, "")?, until)),
        TagFormat::TriggeredTags { .. } => triggered(format, until),
        TagFormat::TagsWithSeparator {
            tags,
            separator,
            at_least_one,
            stop_after_first,
        } => {
            let first = any_tag(tags, "")?;
            let more = [vec![text(separator)], first.clone()].concat();
            let more = (!stop_after_first).then(|| Pattern::Many(more));
            let all = [first, more.into_iter().collect()].concat();
            let all = match at_least_one {
                true => all,
                false => vec![Pattern::OneOf(vec![all, Vec::new()])],
            };
            Ok(closed(all, until))
        }
    }
}

/// Appends the texts that may follow a part with an end of its own.
fn closed(mut part: Vec<Pattern>, until: Until<'_>) -> Vec<Pattern> {
    if let Until::Texts(ends) = until {
        let ends = ends.iter().map(|end| vec![text(end)]);
        part.push(Pattern::OneOf(ends.collect()));
    }
    part
}

/// The patterns of text that has no end of its own, and of the texts that end it.
fn free(rules: TextRules, until: Until<'_>) -> Patterns {
    match until {
        Until::TheEnd => Ok(vec![Pattern::Free(rules)]),
        Until::Texts(ends) => {
            let before = |end: &String| {
                let others = ends.iter().filter(|other| *other != end);
                let rules = and_without(rules.clone(), others);
                vec![Pattern::Until(rules, end.clone())]
            };
            Ok(vec![Pattern::OneOf(ends.iter().map(before).collect())])
        }
        Until::More => Err(
            "'any_text' and 'triggered_tags' have no end of their own: let them be last, or in a 'tag'"
                .to_owned(),
        ),
    }
}

fn sequence(elements: &[TagFormat], until: Until<'_>) -> Patterns {
    let (last, others) = elements
        .split_last()
        .ok_or("'elements' of 'sequence' is empty")?;
    let others = others.iter().map(|element| part(element, Until::More));
    let parts: Vec<_> = others.collect::<Result<_, _>>()?;
    Ok([parts.concat(), part(last, until)?].concat())
}

fn repeated(content: &TagFormat, min: u32, max: Option<u32>, until: Until<'_>) -> Patterns {
    let content = part(content, Until::More)?;
    Ok(closed(vec![Pattern::Times(content, min, max)], until))
}

fn one_of(alternatives: Vec<Vec<Pattern>>, name: &str) -> Patterns {
    match alternatives.is_empty() {
        true => Err(format!("{name} is empty")),
        false => Ok(vec![Pattern::OneOf(alternatives)]),
    }
}

/// A tag without the text `begun` at its beginning, which an earlier pattern has.
fn tag(tag: &TagOfFormat, begun: &str) -> Patterns {
    let ends: &[String] = match &tag.end {
        TagEnd::One(end) => std::slice::from_ref(end),
        TagEnd::Many(ends) => ends,
    };
    if ends.is_empty() || ends.iter().any(String::is_empty) {
        return Err(format!("the tag '{}' has no 'end'", tag.begin));
    }
    let begin = tag.begin.strip_prefix(begun).unwrap_or(&tag.begin);
    let content = part(&tag.content, Until::Texts(ends))?;
    Ok([vec![text(begin)], content].concat())
}

fn any_tag(tags: &[TagOfFormat], begun: &str) -> Patterns {
    let tags = tags.iter().map(|one| tag(one, begun));
    one_of(tags.collect::<Result<_, _>>()?, "'tags'")
}

/// Text in which a tag follows each trigger.
fn triggered(format: &TagFormat, until: Until<'_>) -> Patterns {
    let TagFormat::TriggeredTags {
        triggers,
        tags,
        at_least_one,
        stop_after_first,
        excludes,
    } = format
    else {
        return Ok(Vec::new());
    };
    check_triggers(triggers, tags)?;
    let rest = free(and_without(without(excludes), triggers.iter()), until)?;
    let text_and_tag = triggers.iter().map(|trigger| {
        let others = triggers.iter().filter(|other| *other != trigger);
        let rules = and_without(without(excludes), others);
        let tags = tags.iter().filter(|tag| tag.begin.starts_with(trigger));
        let tags: Vec<_> = tags
            .map(|one| tag(one, trigger))
            .collect::<Result<_, _>>()?;
        Ok(vec![
            Pattern::Until(rules, trigger.clone()),
            Pattern::OneOf(tags),
        ])
    });
    let text_and_tag = one_of(text_and_tag.collect::<Result<_, String>>()?, "'triggers'")?;
    let first = any_tag(tags, "")?;
    Ok(match (at_least_one, stop_after_first) {
        (true, true) => closed(first, until),
        (true, false) => [first, vec![Pattern::Many(text_and_tag)], rest].concat(),
        (false, true) => vec![Pattern::OneOf(vec![closed(text_and_tag, until), rest])],
        (false, false) => [vec![Pattern::Many(text_and_tag)], rest].concat(),
    })
}

/// Checks that each trigger begins tags, and each tag begins with one trigger.
fn check_triggers(triggers: &[String], tags: &[TagOfFormat]) -> Result<(), String> {
    let begins = |tag: &TagOfFormat, trigger: &String| {
        !trigger.is_empty() && tag.begin.starts_with(trigger.as_str())
    };
    let idle = triggers
        .iter()
        .find(|trigger| !tags.iter().any(|tag| begins(tag, trigger)));
    if let Some(trigger) = idle {
        return Err(format!("no tag begins with the trigger '{trigger}'"));
    }
    let count = |tag: &&TagOfFormat| triggers.iter().filter(|one| begins(tag, one)).count();
    match tags.iter().find(|tag| count(tag) != 1) {
        Some(tag) => Err(format!(
            "the tag '{}' must begin with exactly one of the triggers",
            tag.begin
        )),
        None => Ok(()),
    }
}

fn without(texts: &[String]) -> TextRules {
    and_without(TextRules::default(), texts.iter())
}

fn and_without<'a>(rules: TextRules, texts: impl Iterator<Item = &'a String>) -> TextRules {
    texts.fold(rules, |rules, text| rules.without(text))
}

fn text(text: &str) -> Pattern {
    Pattern::Text(text.to_owned())
}

fn schema(schema: &Value, style: SchemaStyle) -> Patterns {
    let (schema, _) = relaxed(schema.clone());
    let format = match style {
        SchemaStyle::Json => return Ok(vec![Pattern::Json(schema)]),
        SchemaStyle::QwenXml => "qwen3_coder",
        SchemaStyle::MinimaxXml => "minimax_m2",
        SchemaStyle::GlmXml => "glm",
    };
    tools::arguments(format, &schema).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::grammar::{Grammar, tests::check_fits};

    #[track_caller]
    fn check(format: Value, good: &[&str], bad: &[&str]) {
        let format = serde_json::from_value(format).unwrap();
        check_fits(Grammar::Patterns(patterns(&format).unwrap()), good, bad);
    }

    fn number() -> Value {
        json!({"type": "json_schema", "json_schema": {"type": "integer"}})
    }

    fn tagged(name: &str) -> Value {
        json!({"begin": format!("<f={name}>"), "content": number(), "end": "</f>"})
    }

    #[test]
    fn parts_follow_each_other() {
        let unit = json!({"type": "or", "elements": [
            {"type": "const_string", "value": " m"}, {"type": "regex", "pattern": " k[gm]/s"},
        ]});
        let format = json!({"type": "sequence", "elements": [number(), {"type": "optional", "content": unit}]});
        check(
            format,
            &["7", "-12 m", "1 km/s"],
            &["", "m", "7 kx/s", "7 m m"],
        );
        let x = json!({"type": "const_string", "value": "x"});
        let times = |kind: &str| json!({"type": kind, "content": x});
        check(times("star"), &["", "xxx"], &["y", "xy"]);
        check(times("plus"), &["x", "xxx"], &["", "xy"]);
        let repeat = |min, max| json!({"type": "repeat", "min": min, "max": max, "content": x});
        check(repeat(1, 2), &["x", "xx"], &["", "xxx"]);
        check(repeat(2, -1), &["xx", "xxxxx"], &["", "x"]);
    }

    #[test]
    fn text_reaches_to_the_end_of_its_tag() {
        let any = json!({"type": "any_text", "excludes": ["no"]});
        let think = json!({"type": "tag", "begin": "<a>", "content": any, "end": ["</a>", "</b>"]});
        let format = json!({"type": "sequence", "elements": [think, number()]});
        check(
            format,
            &["<a>x < y</a>1", "<a></b>23"],
            &["<a>no</a>1", "<a>x</a>", "x</a>1", "<a>x</b></a>1"],
        );
        let digits = json!({"type": "regex", "pattern": "[0-9]+"});
        let format = json!({"type": "tag", "begin": "(", "content": digits, "end": ")"});
        check(format, &["(1)", "(12)"], &["()", "(1", "(a)"]);
    }

    #[test]
    fn a_tag_follows_each_trigger() {
        let format = |extra: Value| {
            let mut format = json!({
                "type": "triggered_tags", "triggers": ["<f="], "tags": [tagged("a"), tagged("b")],
            });
            format
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            format
        };
        let (once, twice) = ("<f=a>1</f>", "Hi <f=b>2</f> and <f=a>3</f>.");
        check(
            format(json!({})),
            &["", "Hi <f", once, twice],
            &["<f=c>1</f>", "<f=a>x</f>", "<f=a>1", "Hi <f="],
        );
        check(
            format(json!({"at_least_one": true})),
            &[once, "<f=a>1</f> <f=b>2</f> x"],
            &["", twice],
        );
        let first = json!({"stop_after_first": true});
        check(
            format(first),
            &["", "Hi", once, "Hi <f=b>2</f>"],
            &[twice, "<f=a>1</f>."],
        );
        let both = json!({"at_least_one": true, "stop_after_first": true});
        check(format(both), &[once], &["", "Hi", "<f=a>1</f><f=a>1</f>"]);
        check(
            format(json!({"excludes": ["bad"]})),
            &["good <f=a>1</f>"],
            &["bad", "bad <f=a>1</f>"],
        );
        let inside = json!({"type": "tag", "begin": "[", "content": format(json!({})), "end": "]"});
        check(inside, &["[]", "[Hi <f=a>1</f>.]"], &["[", "[<f=]", "[]x"]);
    }

    #[test]
    fn tags_have_separators() {
        let format = |extra: Value| {
            let mut format = json!({
                "type": "tags_with_separator", "separator": ",", "tags": [tagged("a")],
            });
            format
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            format
        };
        let (one, two) = ("<f=a>1</f>", "<f=a>1</f>,<f=a>2</f>");
        check(format(json!({})), &["", one, two], &["x", "<f=a>1</f>,"]);
        check(format(json!({"at_least_one": true})), &[one, two], &[""]);
        check(
            format(json!({"stop_after_first": true})),
            &["", one],
            &[two],
        );
    }

    #[test]
    fn arguments_are_written_in_a_familys_notation() {
        let schema = json!({
            "type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer"}},
            "required": ["a", "n"], "additionalProperties": false,
        });
        let text = "<parameter=a>\nx y\n</parameter>\n<parameter=n>\n1\n</parameter>\n";
        let wrong = "<parameter=a>\nx\n</parameter>\n<parameter=n>\nz\n</parameter>\n";
        check(
            json!({"type": "qwen_xml_parameter", "json_schema": schema}),
            &[text],
            &[wrong],
        );
        let glm = "<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n<arg_key>n</arg_key>\n<arg_value>1</arg_value>\n";
        let format = json!({"type": "json_schema", "json_schema": schema, "style": "glm_xml"});
        check(format, &[glm], &[text]);
    }

    #[test]
    fn the_older_form_is_read() {
        let structure = json!({"begin": "<f=a>", "schema": {"type": "integer"}, "end": "</f>"});
        let structures = serde_json::from_value(json!([structure])).unwrap();
        let format = of_structures(structures, vec!["<f=".to_owned()]);
        let grammar = Grammar::Patterns(patterns(&format).unwrap());
        check_fits(grammar, &["Hi <f=a>1</f>."], &["<f=b>1</f>", "<f=a>x</f>"]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let any = json!({"type": "any_text"});
        let triggered = |triggers: &[&str]| json!({"type": "triggered_tags", "triggers": triggers, "tags": [tagged("a")]});
        for (format, part) in [
            (
                json!({"type": "sequence", "elements": [any, any]}),
                "no end of their own",
            ),
            (
                json!({"type": "star", "content": any}),
                "no end of their own",
            ),
            (json!({"type": "or", "elements": []}), "empty"),
            (json!({"type": "sequence", "elements": []}), "empty"),
            (
                json!({"type": "tag", "begin": "a", "content": any, "end": ""}),
                "no 'end'",
            ),
            (
                json!({"type": "repeat", "min": 2, "max": 1, "content": number()}),
                "at least",
            ),
            (triggered(&["<f=", "<f"]), "exactly one"),
            (triggered(&["<f=", "<g="]), "'<g='"),
            (triggered(&[]), "exactly one"),
        ] {
            let read = serde_json::from_value(format.clone()).unwrap();
            let why = patterns(&read).unwrap_err();
            assert!(why.contains(part), "{format}: {why}");
        }
    }
}
