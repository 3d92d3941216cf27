use std::fs;

use super::*;
use crate::config::Environment;

/// This machine's programs. The tests require them: otherwise the video reader would be untested.
fn programs() -> Programs {
    let environment = Environment::of_process();
    let find = |name: &str| {
        let mut folders = std::env::split_paths(environment.get("PATH").unwrap_or_default());
        let found = folders.find(|folder| folder.join(name).is_file());
        found.unwrap_or_else(|| panic!("{name} is needed by the tests: install ffmpeg")).join(name)
    };
    Programs { ffmpeg: find("ffmpeg"), ffprobe: find("ffprobe") }
}

fn reader(limits: VideoLimits) -> Ffmpeg {
    Ffmpeg::new(programs(), limits).expect("ffmpeg runs")
}

/// The luma by which a frame is recognized.
fn luma(index: usize) -> usize {
    16 + index * 5 % 216
}

/// A file of grey frames, 25 per second, whose grey tells their index.
fn clip(size: (usize, usize), frames: usize, name: &str, encoding: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    let (width, height) = size;
    // The source rounds sizes to even numbers, so frames are scaled to odd ones afterwards.
    let source = format!(
        "color=size=64x48:rate=25,geq=lum='16+mod(N*5,216)':cb=128:cr=128,scale={width}:{height}"
    );
    let mut command = Command::new(programs().ffmpeg);
    command.args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", &source]);
    command.args(["-frames:v", &frames.to_string(), "-pix_fmt", "yuv420p"]).args(encoding);
    assert!(command.arg(&path).status().expect("ffmpeg runs").success());
    fs::read(path).expect("the clip")
}

fn mpeg4(frames: usize) -> Vec<u8> {
    clip((64, 48), frames, "a.mp4", &["-c:v", "mpeg4", "-q:v", "2"])
}

/// Indices and greys (the red value of the middle pixel) of frames.
fn greys(
    reader: &Ffmpeg,
    file: &[u8],
    indices: &[usize],
) -> Result<Vec<(usize, usize)>, MediaError> {
    let info = reader.probe(file)?;
    let mut found = Vec::new();
    reader.read(file, &info, indices, &mut |index, pixels| {
        assert_eq!(pixels.len(), info.width * info.height * 3);
        let middle = (info.height / 2 * info.width + info.width / 2) * 3;
        found.push((index, usize::from(pixels[middle])));
        Ok(())
    })?;
    Ok(found)
}

fn assert_frames(found: &[(usize, usize)], indices: &[usize], first: usize) {
    assert_eq!(found.iter().map(|(index, _)| *index).collect::<Vec<_>>(), indices);
    for (index, grey) in found {
        let expected = (luma(first + index) - 16) * 255 / 219;
        assert!(grey.abs_diff(expected) <= 2, "frame {index}: {grey}, not {expected}");
    }
}

#[test]
fn frames_match_their_indices_in_every_format() {
    let reader = reader(VideoLimits::default());
    let formats: [(&str, &[&str]); 5] = [
        ("a.mp4", &["-c:v", "mpeg4", "-q:v", "2"]),
        ("a.mp4", &["-c:v", "libx264", "-qp", "4", "-bf", "3", "-g", "12"]),
        ("a.mov", &["-c:v", "libx264", "-qp", "4", "-metadata:s:v:0", "rotate=90"]),
        ("a.mkv", &["-c:v", "libx264", "-qp", "4", "-bf", "3"]),
        ("a.webm", &["-c:v", "libvpx-vp9", "-crf", "8", "-b:v", "0", "-cpu-used", "8"]),
    ];
    for (name, encoding) in formats {
        // Unaligned sizes: nothing is rounded or padded on the way.
        let size = if name == "a.webm" { (65, 47) } else { (66, 46) };
        let file = clip(size, 40, name, encoding);
        let info = reader.probe(&file).unwrap_or_else(|error| panic!("{encoding:?}: {error}"));
        assert_eq!((info.frames, info.width, info.height), (40, size.0, size.1), "{encoding:?}");
        assert!((info.fps - 25.0).abs() < 0.01, "{encoding:?}: {}", info.fps);
        let indices = [0, 1, 7, 12, 13, 38, 39];
        let found = greys(&reader, &file, &indices).expect("frames");
        assert_frames(&found, &indices, 0);
    }
}

#[test]
fn colours_are_those_of_a_plain_conversion() {
    let reader = reader(VideoLimits::default());
    for encoding in [&["-c:v", "libx264"][..], &["-c:v", "libx264", "-flags", "+ilme+ildct"]] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.mp4");
        let mut command = Command::new(programs().ffmpeg);
        command.args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i"]);
        command.args(["testsrc2=size=322x180:rate=10:duration=1", "-pix_fmt", "yuv420p"]);
        assert!(command.args(encoding).arg(&path).status().expect("ffmpeg runs").success());
        let mut command = Command::new(programs().ffmpeg);
        command.args(["-nostdin", "-loglevel", "error", "-i"]).arg(&path);
        command.args(["-vf", "scale=interl=-1:flags=bilinear", "-pix_fmt", "rgb24"]);
        let plain = command.args(["-f", "rawvideo", "pipe:1"]).output().expect("ffmpeg runs");
        let file = fs::read(path).expect("the clip");
        let (info, mut taken) = (reader.probe(&file).expect("a video"), Vec::new());
        let indices: Vec<usize> = (0..info.frames).collect();
        let mut take = |_: usize, pixels: &[u8]| {
            taken.extend_from_slice(pixels);
            Ok(())
        };
        assert_eq!(reader.read(&file, &info, &indices, &mut take), Ok(()));
        assert_eq!(taken.len(), 10 * 322 * 180 * 3);
        assert!(taken == plain.stdout, "{encoding:?}");
    }
}

#[test]
fn all_frames_can_be_taken_and_many_of_a_long_file() {
    let reader = reader(VideoLimits::default());
    let count = TERMS_MAX + 52;
    let file = clip((16, 16), count, "a.mp4", &["-c:v", "mpeg4", "-q:v", "2"]);
    for step in [1, 2, count - 1] {
        let indices: Vec<usize> = (0..count).step_by(step).collect();
        let found = greys(&reader, &file, &indices).expect("frames");
        assert_frames(&found, &indices, 0);
    }
    assert_eq!(greys(&reader, &file, &[]), Ok(vec![]));
}

#[test]
fn frames_before_a_cut_are_neither_counted_nor_given() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (whole, cut) = (folder.path().join("whole.mp4"), folder.path().join("cut.mp4"));
    let encoding = ["-c:v", "libx264", "-qp", "4", "-g", "10", "-bf", "0"];
    fs::write(&whole, clip((64, 48), 40, "a.mp4", &encoding)).expect("written");
    let mut command = Command::new(programs().ffmpeg);
    // 0.6 s is frame 15; the file begins at key frame 10 and hides 5 frames.
    command.args(["-nostdin", "-loglevel", "error", "-ss", "0.6", "-i"]).arg(&whole);
    assert!(command.args(["-c", "copy"]).arg(&cut).status().expect("ffmpeg runs").success());
    let (reader, file) = (reader(VideoLimits::default()), fs::read(cut).expect("the clip"));
    assert_eq!(reader.probe(&file).expect("a video").frames, 25);
    let found = greys(&reader, &file, &[0, 24]).expect("frames");
    assert_frames(&found, &[0, 24], 15);
}

/// An MP4 file's bytes from the contents of the first box of this kind.
fn inside<'a>(file: &'a mut [u8], kind: &[u8; 4]) -> &'a mut [u8] {
    let at = file.windows(4).position(|bytes| bytes == kind).expect("such a box");
    &mut file[at + 4..]
}

#[test]
fn frames_that_an_edit_list_leaves_out_are_neither_counted_nor_missed() {
    let reader = reader(VideoLimits::default());
    let encoding = ["-c:v", "libx264", "-qp", "4", "-g", "10", "-bf", "0"];
    let whole = clip((64, 48), 40, "a.mp4", &encoding);
    assert_eq!(reader.probe(&whole).expect("a video").frames, 40);
    // After version, flags and count: a duration in 1/1000 s, a start in 1/12800 s.
    for (milliseconds, start, frames, first) in [(600u32, 0u32, 15, 0), (1000, 512 * 15, 25, 15)] {
        let mut file = whole.clone();
        let list = inside(&mut file, b"elst");
        list[8..12].copy_from_slice(&milliseconds.to_be_bytes());
        list[12..16].copy_from_slice(&start.to_be_bytes());
        assert_eq!(reader.probe(&file).expect("a video").frames, frames);
        let indices = [0, frames - 1];
        assert_frames(&greys(&reader, &file, &indices).expect("frames"), &indices, first);
    }
}

#[test]
fn an_index_of_more_frames_than_there_are_takes_no_memory() {
    let reader = reader(VideoLimits::default());
    let mut file = clip((64, 48), 1, "a.mp4", &["-c:v", "mjpeg"]);
    assert_eq!(reader.probe(&file).expect("a video").frames, 1);
    let claimed = 16_000_000u32.to_be_bytes();
    // Frames of the same size and duration as the only one, in the same chunk.
    assert_ne!(inside(&mut file, b"stsz")[4..8], [0; 4], "one size for all");
    inside(&mut file, b"stsz")[8..12].copy_from_slice(&claimed);
    inside(&mut file, b"stsc")[12..16].copy_from_slice(&claimed);
    inside(&mut file, b"stts")[8..12].copy_from_slice(&claimed);
    let error = reader.probe(&file).expect_err("refused");
    let refused = matches!(error, MediaError::Damaged { .. } | MediaError::Empty { .. });
    assert!(refused, "{error:?}");
}

#[test]
fn a_file_that_is_no_video_is_refused() {
    let reader = reader(VideoLimits::default());
    let unknown = MediaError::UnknownFormat { what: "the video", known: KNOWN };
    let list = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n";
    let concat = b"ffconcat version 1.0\nfile /etc/passwd\n";
    for file in [&b""[..], b"\0\0\0", b"GIF89a..........", b"RIFF....AVI ", list, concat] {
        assert_eq!(reader.probe(file), Err(unknown.clone()));
    }
    let header = b"\0\0\0\x18ftypisom\0\0\x02\0isommp41";
    for rest in [&list[..], concat, b""] {
        let disguised = [&header[..], rest].concat();
        let error = reader.probe(&disguised).expect_err("refused");
        assert!(matches!(error, MediaError::Damaged { .. }), "{error:?}");
    }
    // Decoders that are not on the list are not used.
    let rare = clip((64, 48), 4, "a.mkv", &["-c:v", "ffv1"]);
    assert_eq!(reader.probe(&rare), Err(unknown.clone()));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sound = folder.path().join("sound.mp4");
    let mut command = Command::new(programs().ffmpeg);
    command.args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "sine=d=1"]);
    assert!(command.args(["-c:a", "aac"]).arg(&sound).status().expect("ffmpeg runs").success());
    assert_eq!(reader.probe(&fs::read(sound).expect("a file")), Err(unknown));
}

#[test]
fn a_file_that_is_cut_off_is_damaged() {
    let reader = reader(VideoLimits::default());
    let index_last = mpeg4(40);
    let index_first =
        clip((64, 48), 40, "a.mp4", &["-c:v", "mpeg4", "-q:v", "2", "-movflags", "faststart"]);
    for file in [index_last, index_first] {
        let error = reader.probe(&file[..file.len() * 2 / 3]).expect_err("refused");
        assert!(matches!(error, MediaError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(!text.contains("/dev") && !text.contains("0x"), "{text}");
    }
    let file = mpeg4(4);
    let error = greys(&reader, &file, &[0, 4]).expect_err("no such frame");
    assert!(error.to_string().contains("no frame 4"), "{error}");
}

#[test]
fn limits_hold() {
    let file = mpeg4(4);
    let exact = VideoLimits { pixels_max: 64 * 48, ..VideoLimits::default() };
    assert!(reader(exact).probe(&file).is_ok());
    let large = clip((640, 480), 4, "a.mp4", &["-c:v", "mpeg4"]);
    for (file, width, height) in [(&file, 64, 48), (&large, 640, 480)] {
        let limit = 64 * 48 - 1;
        let limits = VideoLimits { pixels_max: limit, ..exact };
        let expected = MediaError::TooManyPixels { width, height, limit };
        assert_eq!(reader(limits).probe(file), Err(expected));
    }
    let short = VideoLimits { timeout: Duration::from_millis(1), ..exact };
    let reader = reader(short);
    let info = VideoInfo { frames: 4, fps: 25.0, width: 64, height: 48 };
    let late = reader.late();
    assert_eq!(reader.probe(&file), Err(late.clone()));
    assert_eq!(reader.read(&file, &info, &[3], &mut |_, _| Ok(())), Err(late));
}

#[test]
fn what_the_taker_says_ends_the_program() {
    let reader = reader(VideoLimits::default());
    let file = mpeg4(40);
    let info = reader.probe(&file).expect("a video");
    let enough = MediaError::TooManyFrames { frames: 40, limit: 1 };
    let mut taken = 0;
    let result = reader.read(&file, &info, &[0, 1, 39], &mut |_, _| {
        taken += 1;
        Err(enough.clone())
    });
    assert_eq!((result, taken), (Err(enough), 1));
}

/// An executable script. Another process writes it: if this one did, a child of another test could
/// inherit the open file, and a file that is open for writing cannot be executed.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program");
    let mut command = Command::new("/bin/sh");
    command.args([
        "-c",
        "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod +x \"$2\"",
        "sh",
        text,
    ]);
    assert!(command.arg(&path).status().expect("a shell").success());
    path
}

/// A reader whose programs are both this script.
fn scripted(folder: &Path, text: &str, timeout: Duration) -> Ffmpeg {
    let program = script(folder, text);
    let programs = Programs { ffmpeg: program.clone(), ffprobe: program };
    let limits = VideoLimits { timeout, ..VideoLimits::default() };
    Ffmpeg { programs, limits, version: "7.1".into(), left: None }
}

/// Passes for a video until a program looks at it.
const HEAD: &[u8] = b"\0\0\0\x0cftypisom";
const ONE: VideoInfo = VideoInfo { frames: 1, fps: 1.0, width: 2, height: 2 };

#[test]
fn a_program_that_hangs_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let notes = folder.path().join("notes");
    // The child holds the pipes: if it outlived the program, reading would wait for it.
    let text = format!(
        "echo $$ > {0}; readlink /proc/$$/fd/0 >> {0}; /bin/sleep 1000 & wait",
        notes.display()
    );
    let reader = scripted(folder.path(), &text, Duration::from_secs(2));
    for result in
        [reader.probe(HEAD).map(|_| ()), reader.read(HEAD, &ONE, &[0], &mut |_, _| Ok(()))]
    {
        assert_eq!(result, Err(reader.late()));
        let notes = fs::read_to_string(&notes).expect("it ran");
        let (process, input) = notes.trim().split_once('\n').expect("two lines");
        assert!(!Path::new("/proc").join(process).exists(), "it is left behind");
        // Deleted even while it ran, so nothing is left if this process is killed.
        assert!(input.ends_with("(deleted)"), "the file is in a folder: {input}");
    }
}

#[test]
fn the_videos_of_an_input_share_its_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let notes = folder.path().join("notes");
    let text = format!("echo run >> {}; /bin/sleep 1000", notes.display());
    let all = scripted(folder.path(), &text, Duration::from_secs(2));
    let runs = || fs::read_to_string(&notes).map_or(0, |notes| notes.lines().count());
    for inputs in 1..=2 {
        let reader = all.of_input().expect("they share a limit");
        for _ in 0..3 {
            assert_eq!(reader.probe(HEAD), Err(all.late()));
            let read = reader.read(HEAD, &ONE, &[0], &mut |_, _| Ok(()));
            assert_eq!(read, Err(all.late()));
        }
        assert_eq!(runs(), inputs, "one takes all the time, for the others nothing is started");
    }
}

#[test]
fn programs_end_with_this_process() {
    // A list of groups of its own: the programs of other tests must continue.
    static GROUPS: Groups = Groups::new();
    let bounds = ProcessLimits { time: Duration::from_secs(600), memory: usize::MAX };
    let start = || {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").stdin(Stdio::null());
        RunningProcess::start(command, bounds, &GROUPS)
    };
    let (first, second) = (start().expect("it starts"), start().expect("it starts"));
    drop(first);
    GROUPS.end();
    let ended = second.finish().expect("it ended");
    assert!(!ended.success && !ended.late, "{ended:?}");
    assert!(start().is_err_and(|error| error.to_string().contains("stops")));
}

#[cfg(target_os = "linux")]
#[test]
fn programs_are_bounded_by_the_system() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Limits are set after the start, so the script waits for them, in vain if they never come.
    let text = "until grep -q 'Max data size *[0-9]' /proc/$$/limits; do :; done; \
                until grep -q 'Max cpu time *[0-9]' /proc/$$/limits; do :; done; exit 3";
    let reader = scripted(folder.path(), text, Duration::from_secs(20));
    let error = reader.probe(HEAD).expect_err("it gives nothing");
    assert!(matches!(error, MediaError::Damaged { .. }), "{error:?}");
    // Less memory than the script needs.
    let bounds = ProcessLimits { time: Duration::from_secs(60), memory: 8 << 20 };
    let mut command = Command::new("/bin/sh");
    let more = "until grep -q 'Max data size *8388608' /proc/$$/limits; do :; done; \
                x=0123456789abcdef; while :; do x=$x$x; done";
    command.args(["-c", more]).stdin(Stdio::null());
    let ended = RunningProcess::start(command, bounds, &RUNNING).and_then(RunningProcess::finish);
    let ended = ended.expect("it ran");
    assert!(!ended.success && !ended.late, "{ended:?}");
}

#[test]
fn programs_are_told_apart_by_whether_they_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let failing = script(folder.path(), "exit 3");
    for program in [failing, folder.path().join("missing")] {
        let programs = Programs { ffmpeg: program.clone(), ffprobe: program };
        let error = Ffmpeg::new(programs, VideoLimits::default()).expect_err("refused");
        assert!(error.contains("does not run"), "{error}");
    }
    for (version, expected) in [
        ("4.4.2-0ubuntu0.22.04.1", false),
        ("n5.0", false),
        ("5.1.9-0+deb12u1", true),
        ("n7.1", true),
        ("8.0", true),
        ("N-109468-gd39b34123d", true),
    ] {
        let limits = VideoLimits::default();
        let version = String::from(version);
        let reader = Ffmpeg { programs: programs(), limits, version, left: None };
        assert_eq!(reader.has_fps_mode(), expected, "{}", reader.version);
    }
}

#[test]
fn programs_that_do_not_know_the_options_are_refused_by_name_and_version() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let old = |unknown: &str| {
        let program = |name: &str, real: &Path| {
            let text = format!(
                "[ \"$1\" != -version ] || {{ echo ffmpeg version 3.0; exit; }}\n\
                 for argument; do [ \"$argument\" != {unknown} ] || {{ \
                 echo \"Unrecognized option '${{argument#-}}'.\" >&2; exit 1; }}; done\n\
                 exec {} \"$@\"\n",
                real.display()
            );
            let path = folder.join(name);
            fs::rename(script(folder, &text), &path).expect("renamed");
            path
        };
        let Programs { ffmpeg, ffprobe } = programs();
        let programs =
            Programs { ffmpeg: program("ffmpeg", &ffmpeg), ffprobe: program("ffprobe", &ffprobe) };
        Ffmpeg::new(programs, VideoLimits::default()).map(|reader| reader.version)
    };
    assert_eq!(old("-nothing").expect("it knows all options"), "3.0");
    for option in ["-max_alloc", "-codec_whitelist", "-max_pixels", "-filter_threads", "-vsync"] {
        let problem = old(option).expect_err("refused");
        let name = folder.join("ffmpeg").display().to_string();
        assert!(problem.starts_with(&name) && problem.contains("version 3.0"), "{problem}");
        assert!(problem.contains("5.1 or later"), "{problem}");
    }
    let tiny = VideoLimits { pixels_max: 1, ..VideoLimits::default() };
    assert!(Ffmpeg::new(programs(), tiny).is_ok(), "the limits are those of requests");
}

#[test]
fn messages_are_those_about_the_file() {
    let messages = "[aac @ 0x5643] Codec (aac) not on whitelist 'h264'\n    Last message repeated\n\
                    [mov,mp4 @ 0x55f3] [x @ 1] moov atom not found\n/dev/stdin: Invalid data\n";
    assert_eq!(summary(messages).as_deref(), Some("moov atom not found"));
    assert_eq!(summary("/dev/stdin: Invalid data\n").as_deref(), Some("Invalid data"));
    assert_eq!(summary(""), None);
}
