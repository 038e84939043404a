//! The golden cases of prompts: the template of each format's models writes `tools/golden/conversation.json`, with a definition,
//! a call and a result. The expected prompts are Jinja2's own, with the settings of transformers.

use super::*;
use crate::{
    markup::{FORMATS, ToolFormat},
    tools::golden::{file, of_kind, parts},
};

/// What the templates write as the date of today.
const TODAY: &str = "TODAY";

fn parsed(source: &str) -> ChatTemplate {
    let special = SpecialTokens {
        bos: Some("<BOS>".to_owned()),
        eos: Some("<EOS>".to_owned()),
    };
    let control = ControlTokens::new([]).unwrap();
    ChatTemplate::parse(source, special, control, None).unwrap()
}

fn conversation() -> RenderRequest {
    let fields: Value = serde_json::from_str(&file("conversation.json")).unwrap();
    RenderRequest {
        tools: fields["tools"].as_array().unwrap().clone(),
        ..request(&fields["messages"])
    }
}

/// The templates of a format, each with its prompt.
fn cases(format: &ToolFormat) -> Vec<(String, String)> {
    let parts = parts(format);
    let whole = of_kind(&parts, "whole template");
    let whole = whole.map(|(source, prompt)| (source.to_owned(), prompt.to_owned()));
    let shapes = of_kind(&parts, "shape").map(|(name, prompt)| {
        let source = format!("../../prompt/tests/shapes/{name}.jinja");
        (file(&source), prompt.to_owned())
    });
    whole.chain(shapes).collect()
}

#[test]
fn templates_of_every_format_write_the_conversation() {
    let today = jiff::Zoned::now().strftime("%Y-%m-%d").to_string();
    let mut wrong = Vec::new();
    for format in FORMATS {
        let cases = cases(format);
        assert!(!cases.is_empty(), "{}", format.name);
        for (source, expected) in cases {
            let template = parsed(&source);
            assert_eq!(template.capabilities().tool_format, format);
            let written = match template.render(&conversation()) {
                Ok(chat) => chat.pieces().concat().replace(&today, TODAY),
                Err(error) => error.to_string(),
            };
            if written != expected {
                wrong.push(format!(
                    "{}:\n{written}\ninstead of\n{expected}",
                    format.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
