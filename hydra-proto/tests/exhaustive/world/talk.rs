//! What the parts of the cluster say to one another.

use super::*;

impl World {
    /// The server has lost the connection of a client, and may notice it at any time.
    pub(super) fn orphan(&mut self, at: usize) {
        let conn = self.clients[at].conn;
        let lost = self.sessions.iter().filter(|session| session.0 == conn);
        self.orphans.extend(lost.copied());
    }

    /// Something happens to the server.
    pub(super) fn server_does(&mut self, event: impl FnOnce(&mut Parent)) {
        let owners = self.server.children().filter(|child| child.owned > 0);
        let owners: Vec<ChildId> = owners.map(|child| child.child).collect();
        event(&mut self.server);
        self.pump_server(&owners);
    }

    /// Does what the server wants. `owners` owned items before.
    fn pump_server(&mut self, owners: &[ChildId]) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Send { conn, message } => {
                    let client = self.clients.iter_mut().find(|client| client.conn == conn);
                    if let Some(client) = client {
                        client.down.push_back(message);
                    }
                }
                Action::Sees { child, .. } => self.server.serve(child, vec![true]),
                Action::Joined { child, conn, .. } => self.sessions.push((conn, child)),
                Action::Back { child, conn } => {
                    self.sessions.retain(|session| session.1 != child);
                    self.orphans.retain(|session| session.1 != child);
                    self.sessions.push((conn, child));
                    self.past.resumed = true;
                }
                Action::Lost { child, .. } => {
                    self.orphans.retain(|orphan| orphan.1 != child);
                    self.past.granted_again |= owners.contains(&child);
                }
                Action::Applied { result, .. } => {
                    let found = result.map(|delta| delta.plugin).unwrap_or_default();
                    found
                        .into_iter()
                        .for_each(|dir| self.seen[usize::from(dir)] += 1);
                }
                _ => {}
            }
        }
        // Beats are advice, and wait for nothing but what is before them.
        for at in 0..CLIENTS {
            while let [Down::Beat(_)] = self.clients[at].down.make_contiguous() {
                self.apply(Event::Down(at));
            }
        }
    }

    pub(super) fn pump(&mut self, at: usize) {
        loop {
            let client = &mut self.clients[at];
            let Some(action) = client.relay.poll_action(NOW) else {
                client.relay.balance(NOW);
                match client.relay.workers().is_some() && self.worker_talk(at) {
                    true => continue,
                    false => break,
                }
            };
            match action {
                RelayAction::Begin(_) => self.begin(at),
                RelayAction::End(_) => {
                    self.clients[at].workers.clear();
                    self.clients[at].found.clear();
                    let conn = self.conn();
                    self.connect(at, conn);
                }
                RelayAction::DropServer(_) => panic!("an honest server was dropped"),
                RelayAction::Worker(Action::Send { conn, message }) => {
                    self.worker_gets(at, conn, message);
                }
                RelayAction::Worker(Action::Applied { result, .. }) => {
                    let found = result.map(|delta| delta.plugin).unwrap_or_default();
                    self.clients[at].found.extend(found);
                }
                _ => {}
            }
        }
        let client = &mut self.clients[at];
        while let Some(message) = client.relay.poll_server() {
            client.up.push_back(message);
        }
        if let [Up::Beat(_)] = client.up.make_contiguous() {
            self.apply(Event::Up(at));
        }
    }

    pub(super) fn begin(&mut self, at: usize) {
        let view = RootView::Refused(String::new());
        self.clients[at].relay.ready(vec![view]);
        self.clients[at].workers.clear();
        (0..self.bounds.workers).for_each(|_| self.hire(at));
    }

    pub(super) fn hire(&mut self, at: usize) {
        let conn = self.conn();
        let mut worker = Worker {
            uplink: Uplink::new(uplink(1, conn.0, false)),
            frontier: None,
            conn,
        };
        worker.uplink.connected(NOW, conn);
        self.clients[at].workers.push(worker);
    }

    pub(super) fn kill(&mut self, at: usize, worker: usize) {
        self.bounds.crashes -= 1;
        let client = &mut self.clients[at];
        let conn = client.workers.remove(worker).conn;
        client.relay.worker_died(NOW, conn, None, "killed");
        // Only one that has work is killed.
        self.past.granted_again = true;
        self.hire(at);
        self.pump(at);
    }

    /// Hands on what workers say. Between a worker and its client nothing is ever on its way.
    pub(super) fn worker_talk(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        let mut any = false;
        for worker in &mut client.workers {
            while let Some(message) = worker.uplink.poll_send() {
                client.relay.worker_message(NOW, worker.conn, message);
                any = true;
            }
        }
        any
    }

    pub(super) fn worker_gets(&mut self, at: usize, conn: ConnId, message: Down) {
        let workers = &mut self.clients[at].workers;
        let Some(worker) = workers.iter_mut().find(|worker| worker.conn == conn) else {
            return;
        };
        worker.uplink.handle(NOW, conn, message);
        while let Some(event) = worker.uplink.poll_event() {
            match (event, &mut worker.frontier) {
                (UplinkEvent::Started(welcome), frontier) => {
                    *frontier = Some(Frontier::new(welcome.ids));
                    let epoch = worker.uplink.epoch();
                    let roots = vec![RootView::Refused(String::new())];
                    worker.uplink.send(Up::Ready(Ready { epoch, roots }));
                }
                (UplinkEvent::Granted(grant), Some(frontier)) => frontier.accept(grant),
                (UplinkEvent::Asked(shed), Some(frontier)) => frontier.ask(shed),
                _ => {}
            }
        }
        if let Some(frontier) = &mut worker.frontier
            && (frontier.could_give() || (frontier.is_dry() && frontier.asked().is_some()))
            && let Some(cut) = frontier.cut(None)
        {
            worker.uplink.commit(cut);
        }
    }

    pub(super) fn step(&mut self, at: usize, worker: usize) {
        let worker = &mut self.clients[at].workers[worker];
        let frontier = worker.frontier.as_mut().expect("a worker that has work");
        let Some((_, Work::Dir { parent, name })) = frontier.pop() else {
            panic!("only whole directories are walked");
        };
        let path = parent.join(&name);
        let tree = self.bounds.tree;
        let dir = tree
            .iter()
            .position(|(known, _)| known.as_bytes() == path.0);
        let dir = dir.expect("a directory that exists");
        let names = tree[dir].1.iter().map(|name| name.as_bytes()).collect();
        frontier.push_dirs(&path, names);
        frontier.finish();
        let cut = frontier.cut(Some(delta(vec![dir as u8])));
        worker.uplink.commit(cut.expect("ids for what was found"));
        self.pump(at);
    }
}
