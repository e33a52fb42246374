//! [`TransportCommand`]s for the engine.

use std::{net::SocketAddr, sync::Arc};

use rialto_engine::{Control, Engine};
use rialto_transport::{CommandSink, TransportCommand};

/// Forwards the transports' commands to an engine.
#[derive(Clone, Debug)]
pub struct EngineCommands(Engine);

impl EngineCommands {
    /// For [`Transports::new`](rialto_transport::Transports::new).
    pub fn sink(engine: Engine) -> Arc<dyn CommandSink> {
        Arc::new(Self(engine))
    }
}

impl CommandSink for EngineCommands {
    fn command(&self, command: TransportCommand) {
        self.0.send(match command {
            TransportCommand::Bind { endpoint, remote, local, shard } => {
                Control::Bind { endpoint, remote, local, shard }
            }
            TransportCommand::Unbind { endpoint, remote } => Control::Unbind { endpoint, remote },
            TransportCommand::Select { endpoint, remote, local } => {
                Control::Select { endpoint, remote, local }
            }
            TransportCommand::SetKeys(endpoint, keys) => Control::SetKeys(endpoint, keys),
            TransportCommand::SetRtt(endpoint, rtt) => Control::SetRtt(endpoint, rtt),
            TransportCommand::Transmit { shard, local, remote, bytes } => {
                Control::Transmit { shard, local, remote, bytes }
            }
        });
    }

    fn local_addrs(&self) -> &[SocketAddr] {
        self.0.local_addrs()
    }
}
