use super::{
    ChatTemplate, RenderRequest, RenderedChat, TemplateCapabilities, TemplateError, VolatileLines,
};

/// The chat templates of one model. Some models have a separate one for chats with tools.
#[derive(Debug)]
pub struct ChatTemplates {
    default: ChatTemplate,
    tool_use: Option<ChatTemplate>,
    volatile_lines: VolatileLines,
}

impl ChatTemplates {
    /// `default` is for all chats, or for those without tools if there is `tool_use`.
    pub fn new(default: ChatTemplate, tool_use: Option<ChatTemplate>) -> Self {
        Self {
            default,
            tool_use,
            volatile_lines: VolatileLines::default(),
        }
    }

    /// The same templates, with lines that are removed from system messages.
    pub fn without_lines(mut self, volatile_lines: VolatileLines) -> Self {
        self.volatile_lines = volatile_lines;
        self
    }

    /// Renders a prompt.
    ///
    /// # Errors
    /// The errors of [`ChatTemplate::render`].
    pub fn render(&self, request: &RenderRequest) -> Result<RenderedChat, TemplateError> {
        let request = self.volatile_lines.left_out(request);
        match request.tools.is_empty() {
            true => self.default.render(&request),
            false => self.with_tools().render(&request),
        }
    }

    /// Capabilities of the template for chats with tools.
    pub fn capabilities(&self) -> &TemplateCapabilities {
        self.with_tools().capabilities()
    }

    /// Source of the template for chats without tools.
    pub fn source(&self) -> &str {
        self.default.source()
    }

    fn with_tools(&self) -> &ChatTemplate {
        self.tool_use.as_ref().unwrap_or(&self.default)
    }
}
