//! Real exporters: softflowd, pmacctd and Open vSwitch, metering a capture or the frames of a wire.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::isolation::{folder, run};
use crate::process::{Process, wait_until};

/// Starts softflowd on a capture; it exports every flow at the file's end. `version` is 5, 9 or 10.
#[must_use]
pub fn softflowd(capture: &Path, collector: SocketAddr, version: u8) -> Process {
    let mut command = Command::new("softflowd");
    command.arg("-r").arg(capture).args(["-n", &collector.to_string(), "-v", &version.to_string(), "-d", "-m", "100000"]);
    Process::start("softflowd", &mut command)
}

/// What pmacctd sends.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// Its plugin nfprobe: NetFlow 5, 9 or IPFIX (10).
    Netflow(u8),
    /// Its plugin sfprobe: sFlow, one packet in so many, picked at random.
    Sflow(u32),
}

/// Starts pmacctd on a capture; it exports during the file and the rest at its end.
///
/// # Panics
///
/// If its configuration cannot be written.
#[must_use]
pub fn pmacctd(capture: &Path, collector: SocketAddr, probe: Probe) -> Process {
    let plugin = match probe {
        Probe::Netflow(version) => format!(
            "plugins: nfprobe\nnfprobe_receiver: {collector}\nnfprobe_version: {version}\n\
             aggregate: src_host, dst_host, src_port, dst_port, proto, tos, tcpflags\n"
        ),
        Probe::Sflow(rate) => {
            format!("plugins: sfprobe\nsfprobe_receiver: {collector}\nsfprobe_agentip: 192.0.2.9\nsampling_rate: {rate}\n")
        }
    };
    let path = folder().join("pmacctd.conf");
    // The queue between its core and its plugin holds the whole capture: a full one would lose packets unsaid.
    let queue = "plugin_pipe_size: 16384000\nplugin_buffer_size: 16384\n";
    fs::write(&path, format!("daemonize: false\npcap_savefile: {}\n{queue}{plugin}", capture.display())).unwrap();
    Process::start("pmacctd", Command::new("pmacctd").arg("-f").arg(path))
}

/// A software switch with two ports; frames sent into `wire0` enter it and leave by `wire1`.
#[derive(Debug)]
pub struct OpenVswitch {
    folder: PathBuf,
    _database: Process,
    _switch: Process,
}

impl OpenVswitch {
    /// Starts a switch in user space (`datapath_type=netdev`) in the namespaces of the test.
    ///
    /// # Panics
    ///
    /// If one of its parts does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = folder().join("ovs");
        fs::create_dir_all(&folder).unwrap();
        // No host here speaks IPv6 by itself: what the switch meters is what the test sends.
        for switch in ["default", "all"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{switch}/disable_ipv6"), "1").unwrap();
        }
        run("ovsdb-tool", &["create", &path(&folder, "conf.db"), "/usr/share/openvswitch/vswitch.ovsschema"]);
        let socket = format!("punix:{}", path(&folder, "db.sock"));
        let database = Process::start(
            "ovsdb-server",
            in_folder("ovsdb-server", &folder).args([
                &path(&folder, "conf.db"),
                "--remote",
                &socket,
                "--unixctl",
                &path(&folder, "db.ctl"),
            ]),
        );
        wait_until("the switch's database", Duration::from_secs(10), || folder.join("db.sock").exists());
        let switch = Process::start(
            "ovs-vswitchd",
            in_folder("ovs-vswitchd", &folder).args([&format!("unix:{}", path(&folder, "db.sock")), "--unixctl", &path(&folder, "vs.ctl")]),
        );
        for number in ["0", "1"] {
            let (wire, port) = (format!("wire{number}"), format!("port{number}"));
            run("ip", &["link", "add", &wire, "type", "veth", "peer", "name", &port]);
            run("ip", &["link", "set", &wire, "up"]);
            run("ip", &["link", "set", &port, "up"]);
        }
        let this = Self { folder, _database: database, _switch: switch };
        this.configure(&["--no-wait", "init"]);
        this.configure(&[
            "add-br",
            "br0",
            "--",
            "set",
            "bridge",
            "br0",
            "datapath_type=netdev",
            "--",
            "add-port",
            "br0",
            "port0",
            "--",
            "add-port",
            "br0",
            "port1",
        ]);
        // A NetFlow record leaves when its flow has been idle for so long.
        this.configure(&["set", "Open_vSwitch", ".", "other_config:max-idle=1000"]);
        this
    }

    /// Sends what enters by the first port out by the second alone, so that what is exported names both.
    pub fn forward(&self) {
        let socket = format!("unix:{}", path(&self.folder, "br0.mgmt"));
        run("ovs-ofctl", &["add-flow", &socket, "in_port=port0,actions=output:port1"]);
    }

    /// Sends NetFlow v5 to the collector.
    pub fn export_netflow(&self, collector: SocketAddr) {
        let target = format!("targets=\"{collector}\"");
        self.configure(&["set", "Bridge", "br0", "netflow=@new", "--", "--id=@new", "create", "NetFlow", &target, "active_timeout=60"]);
    }

    /// Sends IPFIX to the collector: every packet as it enters, and as it leaves by each port.
    pub fn export_ipfix(&self, collector: SocketAddr) {
        let target = format!("targets=\"{collector}\"");
        self.configure(&[
            "set",
            "Bridge",
            "br0",
            "ipfix=@new",
            "--",
            "--id=@new",
            "create",
            "IPFIX",
            &target,
            "sampling=1",
            "obs_domain_id=7",
            "obs_point_id=8",
            "cache_active_timeout=1",
            "cache_max_flows=10000",
        ]);
    }

    /// Sends sFlow to the collector: one packet in `rate`, picked at random, and counters every second.
    pub fn export_sflow(&self, collector: SocketAddr, rate: u32) {
        let target = format!("targets=\"{collector}\"");
        self.configure(&[
            "set",
            "Bridge",
            "br0",
            "sflow=@new",
            "--",
            "--id=@new",
            "create",
            "sFlow",
            "agent=lo",
            &target,
            &format!("sampling={rate}"),
            "polling=1",
            "header=128",
        ]);
    }

    /// Starts to send the capture's packets into the first port, so many a second.
    #[must_use]
    pub fn replay(&self, capture: &Path, packets_per_second: u32) -> Process {
        let mut command = Command::new("tcpreplay");
        command.args(["-q", "-i", "wire0", "--pps", &packets_per_second.to_string()]).arg(capture);
        Process::start("tcpreplay", &mut command)
    }

    fn configure(&self, arguments: &[&str]) {
        let database = format!("--db=unix:{}", path(&self.folder, "db.sock"));
        run("ovs-vsctl", &[&["--timeout=20", database.as_str()], arguments].concat());
    }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

fn in_folder(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(name, folder);
    }
    command
}
