//! What a stream costs through each API, on one server, in turns.

use crate::{Bench, measurements::Http, table::Table};

/// Values of `tenon bench http --api`. The others are compared with the first.
const APIS: [&str; 3] = ["chat", "responses", "messages"];
const CLIENTS: [u32; 3] = [1, 4, 16];

impl Bench {
    /// Output tokens a second of streams.
    pub async fn apis(&self) -> Table {
        let head = "output tokens/s,chat,responses,ratio,messages,ratio".split(',');
        let mut table = Table::new(&head.collect::<Vec<_>>());
        let mut server = self.tenon(Some(1));
        let url = server.address();
        for clients in CLIENTS {
            let mut measured = APIS.map(|_| Http::default());
            for _ in 0..self.rounds {
                for (api, http) in APIS.iter().zip(&mut measured) {
                    let load =
                        format!("--api {api} --loads throughput --clients {clients} --requests 2");
                    http.measure([&url].into_iter(), &load);
                }
            }
            let [chat, others @ ..] = measured.map(|http| http.median(0, "output tokens/s"));
            let others = others.into_iter().flat_map(|rate| [rate, rate / chat]);
            let values: Vec<_> = [chat].into_iter().chain(others).collect();
            table.row(&format!("{clients} clients"), &values);
        }
        table
    }
}
