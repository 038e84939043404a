//! Writes tool calls as text, for conversations whose chat template cannot write them.

use serde_json::{Map, Value};

use super::format::{Arguments, CallFormat, Pairs, Tagged, ToolFormat};

impl ToolFormat {
    /// Writes calls. Each consists of a function's name and its arguments as JSON.
    pub fn write(&self, calls: &[(&str, &str)]) -> String {
        let calls = calls.iter().enumerate();
        let calls = calls.map(|(number, (name, arguments))| {
            let head = self.head(name).join(&number.to_string());
            match self.call {
                CallFormat::Object { .. } => format!("{head}{arguments}}}"),
                CallFormat::Named {
                    arguments: style,
                    end,
                    ..
                } => format!("{head}{}{end}", self.write_arguments(style, arguments)),
            }
        });
        let begin = match self.may_be_bare {
            true => "",
            false => self.begin[0],
        };
        let block = |calls: String| format!("{begin}{}{calls}{}", self.open, self.end);
        match self.separator {
            Some(separator) => block(calls.collect::<Vec<_>>().join(separator)),
            None => calls.map(block).collect::<Vec<_>>().join(self.between),
        }
    }

    /// Writes arguments in a style. Arguments that are not a JSON object stay as they are: a model may have written
    /// them.
    fn write_arguments(&self, style: Arguments, json: &str) -> String {
        let arguments = || serde_json::from_str::<Map<String, Value>>(json);
        match (style, arguments()) {
            (Arguments::Tagged(tags), Ok(arguments)) => tags.write(&arguments),
            (Arguments::Pairs(pairs), Ok(arguments)) => pairs.write(&arguments, ["", pairs.assign]),
            _ => json.to_owned(),
        }
    }
}

impl Tagged {
    fn write(&self, arguments: &Map<String, Value>) -> String {
        let write = |(key, value): (&String, &Value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            let [before, after, end] = [self.before_key, self.after_key, self.after_value];
            format!("{before}{key}{after}{value}{end}")
        };
        arguments.iter().map(write).collect()
    }
}

impl Pairs {
    /// Writes the members of an object. `around` stands before and behind each key.
    fn write(&self, members: &Map<String, Value>, around: [&str; 2]) -> String {
        let [before, after] = around;
        let members = members
            .iter()
            .map(|(key, value)| format!("{before}{key}{after}{}", self.write_value(value)));
        members.collect::<Vec<_>>().join(self.separator)
    }

    pub fn write_value(&self, value: &Value) -> String {
        let [yes, no, null] = self.words;
        match value {
            Value::Bool(true) => yes.to_owned(),
            Value::Bool(false) => no.to_owned(),
            Value::Null => null.to_owned(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| self.write_value(item)).collect();
                format!("[{}]", items.join(self.separator))
            }
            Value::Object(members) => format!("{{{}}}", self.write(members, self.inner_key)),
        }
    }

    /// Writes a string. Text between ordinary quotation marks is escaped. Other marks do not occur in text.
    fn string(&self, text: &str) -> String {
        match self.quotes[0] {
            "\"" => Value::from(text).to_string(),
            quote => format!("{quote}{text}{quote}"),
        }
    }
}
