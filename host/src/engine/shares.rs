//! Fair shares between clients: which sequence goes first, and which gives way.
//!
//! Priorities count first, as far as `min_priority` allows. A client with fewer running sequences goes before one with
//! more. Then a client for whom fewer tokens were computed goes before one with more. Requests of one client are ordered by
//! priority, then in the same way: a request for many answers does not keep the client's next request waiting. A client
//! that is alone has nobody to share with.

use serde::{Deserialize, Serialize};

/// Identifies a client. Two ids can only be compared for equality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientId(pub u64);

/// The origin of a sequence: its client, request, arrival and priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub client: ClientId,
    /// The arrival number of the request's first sequence.
    pub request: u64,
    /// The sequence's number among all arrivals.
    pub arrival: u64,
    /// Lower priorities start first.
    pub priority: i32,
}

impl Origin {
    /// The sequence's number in its request, from 0.
    pub fn index(&self) -> u64 {
        self.arrival - self.request
    }
}

/// A sequence's place in line. Lower is earlier. Earlier fields count more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The priority, as far as it counts between clients.
    pub urgency: i32,
    /// How many other sequences of the client run.
    running: usize,
    /// Tokens that were computed for the client.
    served: u64,
    priority: i32,
    /// How many other sequences of the request run.
    running_of_request: usize,
    arrival: u64,
}

impl Place {
    /// Whether a running sequence in this place gives way to a waiting one that is owed a share. Afterwards the running
    /// sequence's client or request still runs at least as many as the waiting one's, so no sequence gives way in return.
    pub fn gives_way(&self, of: Origin, waiting: &Self, to: Origin) -> bool {
        match of.client == to.client {
            true => {
                self.priority >= waiting.priority
                    && self.running_of_request > waiting.running_of_request
            }
            false => self.urgency >= waiting.urgency && self.running > waiting.running,
        }
    }

    /// Whether a running sequence gives way because it overtook a waiting sequence of the same client.
    pub fn overtook(&self, of: Origin, waiting: &Self, to: Origin) -> bool {
        of.client == to.client
            && of.arrival > to.arrival
            && self.priority >= waiting.priority
            && self.running_of_request >= waiting.running_of_request
    }

    /// Order in which sequences give way when KV space runs out: the highest goes first. `served` does not count, or two
    /// sequences that do not fit together would keep preempting each other.
    pub fn lightness(&self) -> impl Ord + use<> {
        let Self {
            urgency,
            running,
            priority,
            running_of_request,
            arrival,
            ..
        } = *self;
        (urgency, running, priority, running_of_request, arrival)
    }
}

/// How many tokens were computed for each client that has sequences.
pub struct Shares {
    /// Tokens of each client. A new client starts at the lowest count of the others.
    served: Vec<(ClientId, u64)>,
    /// Lowest priority that counts between clients.
    min_priority: i32,
}

/// Most tokens by which a client may be behind: after a quiet time it has no claim on the next minutes.
const MAX_LAG_TOKENS: u64 = 4096;

impl Shares {
    pub fn new(min_priority: i32) -> Self {
        Self {
            served: Vec::new(),
            min_priority,
        }
    }

    /// Adds a client that has a sequence now, and forgets clients that have none.
    pub fn join(&mut self, client: ClientId, has_sequences: impl Fn(ClientId) -> bool) {
        if self.served.iter().any(|&(known, _)| known == client) {
            return;
        }
        self.served.retain(|&(known, _)| has_sequences(known));
        let least = self.served.iter().map(|&(_, tokens)| tokens).min();
        self.served.push((client, least.unwrap_or(0)));
    }

    /// Counts tokens that were computed for a client.
    pub fn charge(&mut self, client: ClientId, tokens: u32) {
        let Some(served) = self.served.iter_mut().find(|(known, _)| *known == client) else {
            return;
        };
        served.1 += u64::from(tokens);
        let least = served.1.saturating_sub(MAX_LAG_TOKENS);
        for (_, served) in &mut self.served {
            *served = (*served).max(least);
        }
    }

    /// The place of a sequence, given the sequences that run.
    pub fn place(&self, origin: Origin, others: impl Iterator<Item = Origin>) -> Place {
        let (mut running, mut running_of_request) = (0, 0);
        for other in others.filter(|other| other.client == origin.client) {
            running += usize::from(other.arrival != origin.arrival);
            running_of_request +=
                usize::from(other.request == origin.request && other.arrival != origin.arrival);
        }
        let mut served = self.served.iter();
        let served = served.find(|(client, _)| *client == origin.client);
        Place {
            urgency: origin.priority.max(self.min_priority),
            running,
            served: served.map_or(0, |&(_, tokens)| tokens),
            priority: origin.priority,
            running_of_request,
            arrival: origin.arrival,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);

    fn origin(client: ClientId, request: u64, arrival: u64, priority: i32) -> Origin {
        Origin {
            client,
            request,
            arrival,
            priority,
        }
    }

    fn single(client: ClientId, arrival: u64) -> Origin {
        origin(client, arrival, arrival, 0)
    }

    fn shares() -> Shares {
        let mut shares = Shares::new(0);
        shares.join(A, |_| true);
        shares.join(B, |_| true);
        shares
    }

    /// Arrival numbers in the order of their places.
    fn line(shares: &Shares, waiting: &[Origin], running: &[Origin]) -> Vec<u64> {
        let mut line = waiting.to_vec();
        line.sort_by_key(|&origin| shares.place(origin, running.iter().copied()));
        line.iter().map(|origin| origin.arrival).collect()
    }

    #[test]
    fn one_client_is_served_by_priority_and_arrival() {
        let waiting = [
            origin(A, 1, 1, 7),
            origin(A, 2, 2, 0),
            origin(A, 3, 3, -3),
            origin(A, 4, 4, 0),
        ];
        assert_eq!(line(&shares(), &waiting, &[single(A, 0)]), [3, 2, 4, 1]);
    }

    #[test]
    fn whoever_has_less_is_first() {
        let mut shares = shares();
        let waiting = [single(A, 1), single(B, 2)];
        assert_eq!(line(&shares, &waiting, &[]), [1, 2]);
        assert_eq!(line(&shares, &waiting, &[single(A, 0)]), [2, 1]);
        shares.charge(A, 10);
        assert_eq!(line(&shares, &waiting, &[]), [2, 1]);
        assert_eq!(line(&shares, &waiting, &[single(B, 0)]), [1, 2]);
    }

    #[test]
    fn a_low_number_counts_between_clients_as_far_as_the_operator_allows() {
        let waiting = [origin(A, 1, 1, -1), single(B, 2)];
        let running = [single(A, 0)];
        assert_eq!(line(&shares(), &waiting, &running), [2, 1]);
        let allowed = Shares::new(-1);
        assert_eq!(line(&allowed, &waiting, &running), [1, 2]);
        // A high priority number is an offer to wait.
        let waiting = [origin(B, 1, 1, 5), single(A, 2)];
        assert_eq!(line(&shares(), &waiting, &running), [2, 1]);
    }

    #[test]
    fn a_request_for_many_answers_does_not_keep_the_next_one_waiting() {
        let many = |arrival| origin(A, 0, arrival, 0);
        let running = [many(0), many(1)];
        let waiting = [many(2), single(A, 3)];
        assert_eq!(line(&shares(), &waiting, &running), [3, 2]);
    }

    #[test]
    fn what_gave_way_is_never_given_way_to_in_turn() {
        let shares = shares();
        let gives_way = |of: Origin, to: Origin, running: &[Origin]| {
            let place = |origin| shares.place(origin, running.iter().copied());
            place(of).gives_way(of, &place(to), to)
        };
        let (a, b) = ([single(A, 0), single(A, 1), single(A, 2)], single(B, 9));
        assert!(gives_way(a[2], b, &a));
        assert!(gives_way(a[1], single(B, 10), &[a[0], a[1], a[2], b]));
        assert!(!gives_way(a[1], single(B, 10), &[a[0], a[1], b]));
        assert!(!gives_way(b, a[2], &[a[0], a[1], b]));
        assert!(!gives_way(b, a[2], &[a[0], b]));
        assert!(!gives_way(a[1], origin(B, 9, 9, 1), &a));
    }

    #[test]
    fn nobody_is_far_behind() {
        let mut shares = shares();
        shares.charge(A, 100_000);
        shares.charge(B, MAX_LAG_TOKENS as u32 + 1);
        let waiting = [single(B, 1), single(A, 2)];
        assert_eq!(line(&shares, &waiting, &[]), [2, 1]);
    }

    #[test]
    fn a_newcomer_begins_where_the_last_one_is() {
        let mut shares = Shares::new(0);
        shares.join(A, |_| true);
        shares.charge(A, 1000);
        shares.join(B, |_| true);
        let waiting = [single(A, 1), single(B, 2)];
        assert_eq!(line(&shares, &waiting, &[]), [1, 2]);
        // Clients that have no sequence are forgotten.
        shares.join(ClientId(3), |client| client == B);
        assert_eq!(shares.served.len(), 2);
    }
}
