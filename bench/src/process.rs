//! Child programs that never outlive the bench.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::measure;

/// How long a program may take to stop when it is asked to.
const PATIENCE: Duration = Duration::from_secs(90);

/// A program that was started, and is asked to stop when this is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program that says nothing, and that the kernel asks to stop if we end without having done so.
    ///
    /// # Errors
    ///
    /// If it is not installed; `package` says where it would come from.
    pub(crate) fn start(command: &mut Command, package: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Self::spawn(command, package)
    }

    /// Starts a program likewise, whose streams are as the command has them.
    ///
    /// # Errors
    ///
    /// If it is not installed; `package` says where it would come from.
    pub(crate) fn spawn(command: &mut Command, package: &str) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        #[expect(unsafe_code, reason = "the standard library cannot tie a child to its parent")]
        // SAFETY: between fork and exec only prctl is called, which is safe there and touches no memory.
        unsafe {
            command.pre_exec(|| {
                // A kernel that refuses leaves a child that outlives a kill of its parent: no reason not to measure.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("{name} cannot be started; it is in {package}"))?;
        Ok(Self { name, child })
    }

    /// The running child, for its streams.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    ///
    /// # Errors
    ///
    /// If it has to be killed.
    #[expect(unsafe_code, reason = "SIGTERM cannot be sent by the standard library")]
    pub(crate) fn end(&mut self) -> Result<()> {
        let process = libc::pid_t::try_from(self.child.id())?;
        if self.lives() {
            // SAFETY: the child is ours and not waited for yet, so its id cannot belong to another process.
            unsafe { libc::kill(process, libc::SIGTERM) };
        }
        if !measure::wait(PATIENCE, || !self.lives()) {
            self.child.kill()?;
            self.child.wait()?;
            bail!("{} does not stop", self.name);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Best effort: who wants to know has called `end`.
        let _ = self.end();
    }
}
