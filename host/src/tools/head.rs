use super::{
    format::{Body, ToolFormat},
    json::{Cursor, Unread},
};

/// The beginning of a call, up to its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// What is called.
    pub name: String,
    /// How many bytes of the text it takes.
    pub length: usize,
    /// The arguments, where they stood before the name or are no object. None: they follow.
    pub arguments: Option<String>,
}

/// Reads the beginning of a call, without the text that begins a block of them.
pub fn read(text: &str, format: &ToolFormat) -> Result<Head, Unread> {
    let mut cursor = Cursor::new(text);
    cursor.skip_space();
    match format.body {
        Body::Object { .. } | Body::List { .. } => object(cursor),
        Body::Named { separator } => named(cursor, separator),
    }
}

/// Behind the arguments: reads the rest of the call. Returns how many bytes of the text it takes.
pub fn read_tail(text: &str, format: &ToolFormat) -> Result<usize, Unread> {
    let mut cursor = Cursor::new(text);
    if let Body::Named { .. } = format.body {
        return Ok(0);
    }
    loop {
        cursor.skip_space();
        match cursor.peek()? {
            b',' => drop(member(&mut cursor)?),
            _ => break,
        }
    }
    cursor.take("}").map(|()| cursor.at())
}

fn named(mut cursor: Cursor<'_>, separator: &str) -> Result<Head, Unread> {
    let name = cursor.take_until(separator)?;
    cursor.skip_space();
    Ok(Head {
        // Newer models of Mistral write `f[CALL_ID]…[ARGS]`.
        name: name.split('[').next().unwrap_or(name).trim().to_owned(),
        arguments: arguments_unless_object(&mut cursor)?,
        length: cursor.at(),
    })
}

fn object(mut cursor: Cursor<'_>) -> Result<Head, Unread> {
    let (mut name, mut early) = (None, None);
    // A list of calls may be written where one is expected, and the other way around.
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
            ("name" | "function", _) => name = Some(cursor.string()?),
            ("arguments" | "parameters", None) => early = Some(as_text(cursor.value()?)),
            ("arguments" | "parameters", Some(name)) => {
                return Ok(Head {
                    name: name.clone(),
                    arguments: arguments_unless_object(&mut cursor)?,
                    length: cursor.at(),
                });
            }
            ("type" | "id", _) => drop(cursor.value()?),
            // An answer in JSON that is no call shows at its first key.
            _ => return Err(Unread::Wrong),
        }
        cursor.skip_space();
    }
    Ok(Head {
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

/// Arguments as OpenAI has them: some models write them as a string that holds JSON already, or null for none.
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
