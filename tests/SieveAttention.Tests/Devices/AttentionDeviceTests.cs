using Microsoft.Extensions.Logging;
using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Devices;

internal sealed class AttentionDeviceTests
{
    [Test]
    public void Host_devices_are_found_by_name()
    {
        Assert.Multiple(() =>
        {
            Assert.That(AttentionDevice.Parse("reference"), Is.SameAs(AttentionDevice.Reference));
            Assert.That(AttentionDevice.Parse("cpu"), Is.SameAs(AttentionDevice.Cpu));
            Assert.That(AttentionDevice.Reference.Kind, Is.EqualTo(AttentionDeviceKind.Reference));
            Assert.That(AttentionDevice.Cpu.Name, Is.EqualTo("cpu"));
            Assert.That(AttentionDevice.Cpu.Describe(), Does.Contain("float32"));
        });
    }

    [TestCase("gpu")]
    [TestCase("CPU")]
    [TestCase("cuda:")]
    [TestCase("cuda:-1")]
    [TestCase("cuda: 1")]
    [TestCase("")]
    public void An_unknown_name_is_refused_with_the_known_ones(string name)
    {
        Assert.That(
            () => AttentionDevice.Parse(name),
            Throws.ArgumentException.With.Message.Contains($"'{name}'").And.Message.Contains("reference, cpu, cuda or cuda:N"));
    }

    [Test]
    public void Disposing_a_shared_device_leaves_it_usable()
    {
        AttentionDevice.Cpu.Dispose();
        Assert.That(AttentionDevice.Cpu.Describe(), Is.Not.Empty);
    }

    [Test]
    public void Without_CUDA_the_reason_is_given_and_opening_says_the_same()
    {
        string reason = ReasonOrIgnore();
        Assert.Multiple(() =>
        {
            Assert.That(reason, Is.Not.Empty);
            Assert.That(CudaDevice.Count, Is.Zero);
            Assert.That(
                () => AttentionDevice.Cuda(),
                Throws.TypeOf<PlatformNotSupportedException>().With.Message.Contains(reason));
        });
    }

    [Test]
    public void Without_CUDA_the_best_device_is_the_CPU_and_a_warning_says_why()
    {
        string reason = ReasonOrIgnore();
        using RecordingLogger logger = new();
        using AttentionDevice best = AttentionDevice.Best(logger);
        Assert.That(best, Is.SameAs(AttentionDevice.Cpu));
        Assert.That(logger.Entries, Has.Count.EqualTo(1));
        Assert.That(logger.Entries.TryPeek(out (LogLevel Level, string Message) entry));
        Assert.That(entry.Level, Is.EqualTo(LogLevel.Warning));
        Assert.That(entry.Message, Does.Contain(reason));
    }

    [Test]
    public void The_description_says_what_was_loaded_and_what_is_available()
    {
        string text = SieveDiagnostics.Describe();
        Assert.Multiple(() =>
        {
            Assert.That(text, Does.Contain($"ABI version {SieveDiagnostics.AbiVersion}"));
            Assert.That(text, Does.Contain("cuda"));
            foreach (string path in SieveDiagnostics.ProbedPaths)
            {
                Assert.That(text, Does.Contain(path));
            }

            Assert.That(text, Does.Contain(SieveDiagnostics.NativeLibraryVersion ?? "native library: none"));
        });
    }

    private static string ReasonOrIgnore()
    {
        if (CudaDevice.IsAvailable(out string reason))
        {
            Assert.Ignore("This machine has a CUDA device.");
        }

        return reason;
    }
}
