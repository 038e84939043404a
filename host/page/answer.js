// Builds an answer from the chunks of a stream.

/** An answer without content. */
export function emptyAnswer(format) {
  return { role: "assistant", content: "", reasoning: "", calls: [], format };
}

/** Measures the chunks of one stream and adds them to an answer. */
export class Reader {
  constructor(answer) {
    this.answer = answer;
    this.started = performance.now();
  }

  /** Adds a chunk. */
  add({ choices, usage, warnings }) {
    const [choice] = choices;
    if (choice) this.addChoice(choice);
    if (usage) this.answer.stats = this.stats(usage);
    if (warnings?.length) this.answer.warnings = warnings;
  }

  addChoice({ delta, finish_reason: finish }) {
    const { answer } = this;
    if (delta.content || delta.reasoning_content || delta.tool_calls) this.last = performance.now();
    this.first ??= this.last;
    answer.reasoning += delta.reasoning_content ?? "";
    answer.content += delta.content ?? "";
    if (answer.reasoning && !answer.content) answer.thoughtSeconds = (performance.now() - this.started) / 1000;
    for (const call of delta.tool_calls ?? []) this.addCall(call);
    if (finish) answer.finish = finish;
  }

  addCall({ index, id, function: part }) {
    const { calls } = this.answer;
    calls[index] ??= { id, name: "", arguments: "" };
    calls[index].name += part?.name ?? "";
    calls[index].arguments += part?.arguments ?? "";
  }

  /** The time before the first token belongs to the prompt, so the speed is that of the other tokens. */
  stats(usage) {
    const seconds = (this.last - this.first) / 1000;
    const tokens = usage.completion_tokens;
    return {
      tokens,
      prompt: usage.prompt_tokens,
      cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
      perSecond: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null,
      firstSeconds: (this.first - this.started) / 1000,
    };
  }
}
