//! CPU affinity, timer precision and CPU time of threads, and the limit of open files.

use std::{io, mem, time::Duration};

use crate::socket::check;

/// Keeps the calling thread on one CPU, numbered from 0.
///
/// # Errors
/// The CPU does not exist, or the process may not use it.
pub fn set_affinity(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an all-zero `cpu_set_t` is the empty set, `cpu` lies within it, and the set lives through
    // the call; 0 is the calling thread.
    check(unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    })?;
    Ok(())
}

/// Sets how late the kernel may end a wait of the calling thread (50 µs by default), so that it can
/// serve several with one interrupt.
///
/// # Errors
/// None is expected.
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    let nanos = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX).max(1);
    // SAFETY: this option takes one unsigned long and no pointer.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos) })?;
    Ok(())
}

/// The soft and the hard limit of open files and sockets of the process.
///
/// # Errors
/// None is expected.
pub fn open_files() -> io::Result<(usize, usize)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one `rlimit`, which lives through it.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    let count = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
    Ok((count(limit.rlim_cur), count(limit.rlim_max)))
}

/// Raises the limit of open files and sockets.
///
/// # Errors
/// It exceeds the hard limit, or that of the kernel.
pub fn set_open_files(files: usize) -> io::Result<()> {
    let (_, most) = open_files()?;
    let limit = libc::rlimit { rlim_cur: files as libc::rlim_t, rlim_max: most as libc::rlim_t };
    // SAFETY: the call reads one `rlimit`, which lives through it.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(())
}

/// CPU time that the calling thread has used.
pub fn thread_cpu_time() -> Duration {
    // SAFETY: an all-zero timespec is valid, and the call writes one.
    let now = unsafe {
        let mut now: libc::timespec = mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now);
        now
    };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The kernel's id of the calling thread, as in `/proc/self/task`.
pub fn thread_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_files_goes_up_to_the_most() {
        let (now, most) = open_files().unwrap();
        assert!(now > 0 && now <= most);
        set_open_files(now).unwrap();
        assert_eq!(open_files().unwrap(), (now, most));
        assert!(most == usize::MAX || set_open_files(most + 1).is_err());
    }

    #[test]
    fn thread_settings_are_taken() {
        assert!(set_affinity(usize::MAX).is_err());
        set_timer_slack(Duration::from_nanos(1)).unwrap();
        assert!(thread_cpu_time() > Duration::ZERO);
        assert!(std::path::Path::new(&format!("/proc/self/task/{}", thread_id())).exists());
    }
}
