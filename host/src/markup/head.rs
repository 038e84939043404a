use super::{
    format::{Arguments, CallFormat, ToolFormat},
    json::{Cursor, Unread},
};

/// Most bytes of a call up to its arguments. A longer text is no call.
const LONGEST: usize = 320;

/// The beginning of a tool call, up to its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct CallHead {
    /// The name of the function.
    pub name: String,
    /// Length in bytes.
    pub length: usize,
    /// The arguments, if they stood before the name or are not an object. None: they follow.
    pub arguments: Option<String>,
}

/// Reads the beginning of a call. The text begins behind the mark that begins a block.
pub fn read(text: &str, format: &ToolFormat) -> Result<CallHead, Unread> {
    let mut cursor = Cursor::new(text);
    cursor.take_loosely(format.open).or_else(or_nothing)?;
    cursor.skip_space();
    match format.call {
        CallFormat::Object { .. } => object(cursor),
        CallFormat::Named {
            before,
            after,
            arguments,
            ..
        } => named(cursor, before, after, arguments),
    }
}

/// Accepts that an expected text is missing, because models leave some out.
fn or_nothing(unread: Unread) -> Result<(), Unread> {
    match unread {
        Unread::Wrong => Ok(()),
        Unread::Incomplete => Err(unread),
    }
}

/// Reads the rest of a call, from behind its arguments. Returns its length in bytes.
pub fn read_tail(text: &str, format: &ToolFormat) -> Result<usize, Unread> {
    let mut cursor = Cursor::new(text);
    match format.call {
        CallFormat::Named {
            arguments: Arguments::Pairs(_),
            ..
        } => Ok(0),
        CallFormat::Named { end, .. } => cursor.take_loosely(end).map(|()| cursor.at()),
        CallFormat::Object { .. } => object_tail(cursor),
    }
}

fn object_tail(mut cursor: Cursor<'_>) -> Result<usize, Unread> {
    loop {
        cursor.skip_space();
        match cursor.peek()? {
            b',' => drop(member(&mut cursor)?),
            _ => break,
        }
    }
    cursor.take("}").map(|()| cursor.at())
}

fn named(
    mut cursor: Cursor<'_>,
    before: &str,
    after: &str,
    arguments: Arguments,
) -> Result<CallHead, Unread> {
    let start = cursor.at();
    let read = named_up_to_arguments(&mut cursor, before, after);
    // A text that goes on for too long is no name.
    let is_long = cursor.at() - start + cursor.rest().len() > LONGEST;
    let name = read.map_err(|unread| if is_long { Unread::Wrong } else { unread })?;
    Ok(CallHead {
        name: name.to_owned(),
        arguments: match arguments {
            Arguments::Json => arguments_unless_object(&mut cursor)?,
            Arguments::Tagged(_) | Arguments::Pairs(_) => None,
        },
        length: cursor.at(),
    })
}

fn named_up_to_arguments<'a>(
    cursor: &mut Cursor<'a>,
    before: &str,
    after: &str,
) -> Result<&'a str, Unread> {
    cursor.take_loosely(before).or_else(or_nothing)?;
    cursor.skip_space();
    let name = cursor.take_while(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))?;
    if name.is_empty() {
        return Err(Unread::Wrong);
    }
    // Newer Mistral models write `f[CALL_ID]…[ARGS]`. OpenAI's models write the type of the arguments here.
    if let Some(mark) = after.split_whitespace().last() {
        let mark = mark.rfind('<').map_or(mark, |at| &mark[at..]);
        let between = cursor.take_until(mark)?;
        if between.contains('\n') && !after.contains('\n') {
            return Err(Unread::Wrong);
        }
    }
    cursor.skip_space();
    Ok(name)
}

fn object(mut cursor: Cursor<'_>) -> Result<CallHead, Unread> {
    let (mut name, mut early) = (None, None);
    // Models write a list where one call is expected, and one call where a list is expected.
    if cursor.peek()? == b'[' {
        cursor.take("[")?;
        cursor.skip_space();
    }
    if cursor.peek()? != b'{' {
        return Err(Unread::Wrong);
    }
    while cursor.peek()? != b'}' {
        let key = key(&mut cursor)?;
        match (key.as_str(), &name) {
            ("name" | "function" | "tool_name", _) => name = Some(cursor.string()?),
            ("arguments" | "parameters", None) => early = Some(as_text(cursor.value()?)),
            ("arguments" | "parameters", Some(name)) => {
                return Ok(CallHead {
                    name: name.clone(),
                    arguments: arguments_unless_object(&mut cursor)?,
                    length: cursor.at(),
                });
            }
            ("type" | "id" | "tool_call_id", _) => drop(cursor.value()?),
            // An answer in JSON that is no call is recognized by its first key.
            _ => return Err(Unread::Wrong),
        }
        cursor.skip_space();
    }
    Ok(CallHead {
        name: name.ok_or(Unread::Wrong)?,
        arguments: Some(early.unwrap_or_else(|| "{}".to_owned())),
        length: cursor.at(),
    })
}

/// Reads `,` or `{`, a key and `:`.
fn key(cursor: &mut Cursor<'_>) -> Result<String, Unread> {
    match cursor.peek()? {
        b'{' => cursor.take("{")?,
        _ => cursor.take(",")?,
    }
    cursor.skip_space();
    let key = cursor.string()?;
    cursor.skip_space();
    cursor.take(":")?;
    cursor.skip_space();
    cursor.peek()?;
    Ok(key)
}

fn member<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Unread> {
    key(cursor)?;
    cursor.value()
}

fn arguments_unless_object(cursor: &mut Cursor<'_>) -> Result<Option<String>, Unread> {
    match cursor.peek()? {
        b'{' => Ok(None),
        _ => cursor.value().map(|value| Some(as_text(value))),
    }
}

/// Converts arguments to the form of OpenAI's API. Some models write arguments as a string that contains JSON, or as
/// null if there are none.
fn as_text(value: &str) -> String {
    match value {
        "null" => "{}".to_owned(),
        _ => serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, format: &str, name: &str, rest: &str, arguments: Option<&str>) {
        let format = ToolFormat::named(format).unwrap();
        let head = read(text, format).unwrap();
        assert_eq!(head.name, name);
        assert_eq!(&text[head.length..], rest);
        assert_eq!(head.arguments.as_deref(), arguments);
        for cut in 0..head.length {
            let cut = &text[..cut];
            assert_eq!(read(cut, format), Err(Unread::Incomplete), "{cut}");
        }
    }

    #[test]
    fn a_head_is_read_up_to_the_arguments() {
        let text = r#" {"name": "f", "arguments": {"a": 1}}"#;
        check(text, "hermes", "f", r#"{"a": 1}}"#, None);
        let text = r#"{"type":"function","name":"f","parameters":{}}"#;
        check(text, "llama3", "f", "{}}", None);
        check(" f [ARGS] {}", "mistral_args", "f", "{}", None);
    }

    #[test]
    fn arguments_that_are_no_object_or_come_early_are_read_with_it() {
        let text = r#"{"arguments": {"a": "}"}, "id": 1, "name": "f"}"#;
        check(text, "hermes", "f", "}", Some(r#"{"a": "}"}"#));
        let text = r#"{"name": "f", "arguments": "{\"a\": 1}"}"#;
        check(text, "hermes", "f", "}", Some(r#"{"a": 1}"#));
        check(r#"{"name": "f"}"#, "hermes", "f", "}", Some("{}"));
        check(
            r#"{"name": "f", "arguments": null}"#,
            "hermes",
            "f",
            "}",
            Some("{}"),
        );
    }

    #[test]
    fn what_is_no_call_is_wrong() {
        let hermes = ToolFormat::named("hermes").unwrap();
        for text in [
            "f",
            "{}",
            "{1",
            r#"{"a": 1}"#,
            r#"{"name": 1"#,
            r#"{"name" "f""#,
        ] {
            assert_eq!(read(text, hermes), Err(Unread::Wrong), "{text}");
        }
    }

    #[test]
    fn the_tail_closes_the_call() {
        let hermes = ToolFormat::named("hermes").unwrap();
        assert_eq!(read_tail(r#" , "id": "}" } x"#, hermes), Ok(14));
        assert_eq!(read_tail(r#" , "id"#, hermes), Err(Unread::Incomplete));
        assert_eq!(read_tail("</tool_call>", hermes), Err(Unread::Wrong));
    }
}
