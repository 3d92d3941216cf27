use std::sync::mpsc;

use super::*;

fn queue() -> &'static Queue {
    Box::leak(Box::new(Queue::new()))
}

/// Accepts what is written, or fails as told.
struct Sink {
    written: Vec<u8>,
    failures: Vec<io::ErrorKind>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.failures.pop() {
            Some(kind) => Err(kind.into()),
            None => {
                // Like a pipe that is nearly full.
                let taken = bytes.len().min(3);
                self.written.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_cannot_be_written_are_lost_and_counted_and_later_ones_are_written() {
    use io::ErrorKind::{BrokenPipe, Interrupted, StorageFull, WouldBlock};
    let queue = queue();
    let failures = vec![WouldBlock, Interrupted, BrokenPipe, StorageFull];
    let mut sink = Sink { written: Vec::new(), failures };
    for line in ["first", "second", "third", "fourth"] {
        queue.lock().push(format!("{line} line\n").into_bytes());
    }
    for _ in 0..4 {
        queue.write_next(queue.lock(), &mut sink);
    }
    let text = String::from_utf8(sink.written).expect("text");
    // The note before the second line could not be written, so the one before the third reports it.
    let note = "proxima: log lines lost here: 1\n";
    assert_eq!(text, format!("second line\n{note}third line\nfourth line\n"));
    let lines = queue.lock();
    assert_eq!((lines.lost, lines.bytes, lines.waiting.len()), (1, 0, 0));
}

#[test]
fn a_reader_that_stopped_bounds_the_queue_and_blocks_nobody() {
    /// Reports that a write has begun, and blocks until it is released.
    struct Stopped(mpsc::Sender<()>, mpsc::Receiver<()>);
    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.1.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let queue = queue();
    let (began, begun) = mpsc::channel();
    let (let_go, wait) = mpsc::channel();
    queue.started.call_once(|| {});
    queue.lock().served = true;
    thread::spawn(move || queue.write_all(&mut Stopped(began, wait)));
    queue.push(b"held up\n".to_vec());
    begun.recv().expect("a write began");
    let line = vec![b'x'; 1000];
    for _ in 0..QUEUE_BYTES_MAX / 1000 + 10 {
        queue.push(line.clone());
    }
    assert_eq!(queue.lock().lost, 10);
    assert!(queue.lock().bytes <= QUEUE_BYTES_MAX);
    // The end of the process does not wait for the reader either.
    queue.flush(Duration::ZERO);
    assert!(queue.lock().writing);
    drop(let_go);
    drop(begun);
}

#[test]
fn a_flush_waits_for_lines_that_are_taken() {
    let queue = queue();
    let (sent, received) = mpsc::channel();
    struct Channel(mpsc::Sender<Vec<u8>>);
    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    queue.started.call_once(|| {});
    queue.lock().served = true;
    thread::spawn(move || queue.write_all(&mut Channel(sent)));
    for number in 0..100 {
        queue.push(format!("{number}\n").into_bytes());
    }
    queue.flush(Duration::from_secs(60));
    let written: Vec<u8> = received.try_iter().flatten().collect();
    let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(written).expect("text"), expected);
}
