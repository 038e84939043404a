//! Finds out which characters may begin a part of a grammar, and which may follow the part.

use super::{
    chars::CharSet,
    parser::{RulePart, Rules},
};

/// Most rounds through all rules. Most grammars take three.
const MAX_ROUNDS: usize = 30;

/// Facts about a part of a grammar. A set may have too many characters, never too few: large sets are coarse, because there is one
/// for each rule.
#[derive(Clone, Default, PartialEq)]
pub struct PartFacts {
    /// Whether the part is a regular expression: no rule in it leads back to itself, and it has no tokens.
    pub is_regular: bool,
    /// Whether the part may be empty.
    is_nullable: bool,
    /// Characters that may begin the part.
    first: CharSet,
    /// All characters that may occur in the part. Only kept for regular parts.
    alphabet: CharSet,
    /// Characters that may continue the part at a place where it may also end. Only kept for regular parts.
    continuation: CharSet,
}

/// Facts about all rules of a grammar.
pub struct Analysis {
    facts: Vec<PartFacts>,
    /// Characters that may follow each rule.
    follow: Vec<CharSet>,
}

impl Analysis {
    /// `after` are the characters that may follow the text of the whole grammar.
    ///
    /// # Errors
    /// The rules refer to each other in too many ways to analyze.
    pub fn of(rules: &Rules, after: CharSet) -> Result<Self, String> {
        let mut analysis = Self {
            facts: vec![PartFacts::default(); rules.parts.len()],
            follow: vec![CharSet::default(); rules.parts.len()],
        };
        analysis.follow[rules.root] = after;
        analysis.learn(rules, Self::learn_facts)?;
        analysis.learn(rules, Self::learn_follow)?;
        Ok(analysis)
    }

    /// Visits all rules forwards and backwards until a round brings nothing new. `learn` returns whether it learned
    /// something.
    fn learn(
        &mut self,
        rules: &Rules,
        learn: impl Fn(&mut Self, usize, &RulePart) -> bool,
    ) -> Result<(), String> {
        for _ in 0..MAX_ROUNDS {
            let mut is_news = false;
            let there = 0..rules.parts.len();
            for rule in there.clone().chain(there.rev()) {
                is_news |= learn(self, rule, &rules.parts[rule]);
            }
            if !is_news {
                return Ok(());
            }
        }
        Err("its rules lead to each other in too many ways".to_owned())
    }

    pub fn follow(&self, rule: usize) -> &CharSet {
        &self.follow[rule]
    }

    /// Whether a part may be matched as one lexeme of the greatest possible length. This holds if no character can both
    /// continue the part and follow it: then the match never runs beyond the part's end.
    pub fn is_lexeme(&self, part: &RulePart, follow: &CharSet) -> bool {
        let facts = self.facts(part);
        facts.is_regular && !facts.continuation.intersects(follow)
    }

    /// The characters that may follow each part of a sequence. `follow` may follow the whole sequence.
    pub fn follows(&self, parts: &[RulePart], follow: &CharSet) -> Vec<CharSet> {
        let mut follow = follow.clone();
        let mut follows = Vec::new();
        for part in parts.iter().rev() {
            follows.push(follow.clone());
            let mut first = self.facts(part);
            if first.is_nullable {
                first.first.extend(&follow);
            }
            follow = first.first;
        }
        follows.reverse();
        follows
    }

    fn learn_facts(&mut self, rule: usize, part: &RulePart) -> bool {
        let facts = self.facts(part);
        let is_news = facts != self.facts[rule];
        self.facts[rule] = facts;
        is_news
    }

    fn learn_follow(&mut self, rule: usize, part: &RulePart) -> bool {
        let mut found = Vec::new();
        self.visit(part, self.follow[rule].clone(), &mut found);
        let is_news = |(rule, follow): (usize, CharSet)| self.follow[rule].extend(&follow);
        found
            .into_iter()
            .map(is_news)
            .fold(false, |all, is_news| all | is_news)
    }

    /// Collects the rules that a part names, each with the characters that may follow it there.
    fn visit(&self, part: &RulePart, follow: CharSet, found: &mut Vec<(usize, CharSet)>) {
        match part {
            RulePart::Text(_) | RulePart::Chars(_) | RulePart::Token(_) => {}
            RulePart::Rule(rule) => found.push((*rule, follow)),
            RulePart::OneOf(parts) => {
                for part in parts {
                    self.visit(part, follow.clone(), found);
                }
            }
            RulePart::Sequence(parts) => {
                let follows = self.follows(parts, &follow);
                for (part, follow) in parts.iter().zip(follows) {
                    self.visit(part, follow, found);
                }
            }
            RulePart::Repeat(part, _, max) => {
                self.visit(part, self.within_repeat(part, *max, &follow), found);
            }
        }
    }

    /// The characters that may follow one repetition of a part that is repeated up to `max` times. Those are the first
    /// characters of the part, and `follow`, which may follow all repetitions.
    pub fn within_repeat(&self, part: &RulePart, max: Option<u32>, follow: &CharSet) -> CharSet {
        let mut within = follow.clone();
        if max != Some(1) {
            within.extend(&self.facts(part).first);
        }
        within
    }

    fn facts(&self, part: &RulePart) -> PartFacts {
        match part {
            RulePart::Text(text) => {
                let mut facts = PartFacts {
                    is_regular: true,
                    is_nullable: text.is_empty(),
                    ..PartFacts::default()
                };
                for character in text.chars() {
                    if !facts.alphabet.contains(character) {
                        facts.alphabet.insert(character, character);
                        facts.alphabet = facts.alphabet.coarse();
                    }
                }
                text.chars().take(1).for_each(|c| facts.first.insert(c, c));
                facts
            }
            RulePart::Chars(chars) => {
                let chars = chars.clone().coarse();
                PartFacts {
                    is_regular: true,
                    first: chars.clone(),
                    alphabet: chars,
                    ..PartFacts::default()
                }
            }
            RulePart::Token(_) => PartFacts::default(),
            RulePart::Rule(rule) => self.facts[*rule].clone(),
            RulePart::OneOf(parts) => self.of_choice(parts),
            RulePart::Sequence(parts) => self.of_sequence(parts),
            RulePart::Repeat(_, _, Some(0)) => PartFacts {
                is_regular: true,
                is_nullable: true,
                ..PartFacts::default()
            },
            RulePart::Repeat(part, min, max) => self.of_repetition(part, *min, *max),
        }
    }

    fn of_repetition(&self, part: &RulePart, min: u32, max: Option<u32>) -> PartFacts {
        let mut facts = self.facts(part);
        let is_ambiguous = max != Some(1) && facts.continuation.intersects(&facts.first);
        facts.is_nullable |= min == 0;
        if is_ambiguous {
            facts.continuation.extend(&facts.alphabet);
        } else if max != Some(min) || facts.is_nullable {
            facts.continuation.extend(&facts.first);
        }
        facts
    }

    fn of_choice(&self, parts: &[RulePart]) -> PartFacts {
        let mut all = PartFacts {
            is_regular: true,
            ..PartFacts::default()
        };
        let mut is_decided_at_once = true;
        for part in parts {
            let facts = self.facts(part);
            is_decided_at_once &= !all.first.intersects(&facts.first);
            all.is_regular &= facts.is_regular;
            all.is_nullable |= facts.is_nullable;
            all.first.extend(&facts.first);
            all.alphabet.extend(&facts.alphabet);
            all.continuation.extend(&facts.continuation);
        }
        if !is_decided_at_once {
            all.continuation.extend(&all.alphabet);
        } else if all.is_nullable {
            all.continuation.extend(&all.first);
        }
        all
    }

    fn of_sequence(&self, parts: &[RulePart]) -> PartFacts {
        let mut all = PartFacts {
            is_regular: true,
            is_nullable: true,
            ..PartFacts::default()
        };
        for part in parts {
            let facts = self.facts(part);
            // Whether the next part has begun may be known only later, or never.
            let is_ambiguous = all.continuation.intersects(&facts.first);
            all.alphabet.extend(&facts.alphabet);
            if is_ambiguous {
                all.continuation.extend(&all.alphabet);
            } else if facts.is_nullable {
                all.continuation.extend(&facts.first);
                all.continuation.extend(&facts.continuation);
            } else {
                all.continuation = facts.continuation;
            }
            if all.is_nullable {
                all.first.extend(&facts.first);
            }
            all.is_regular &= facts.is_regular;
            all.is_nullable &= facts.is_nullable;
        }
        all
    }
}
