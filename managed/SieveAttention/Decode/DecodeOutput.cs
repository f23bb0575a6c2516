using System.Numerics;

namespace SieveAttention.Decoding;

/// <summary>The epilogue of a decode step, in the precision of the device.</summary>
internal static class DecodeOutput
{
    internal static AttentionTensor Finish<T>(EpilogueParameters epilogue, AttentionTensor? normGain, AttentionTensor? gate, HostArray<T> x)
        where T : unmanaged, IFloatingPointIeee754<T> => HostTensors.Wrap(Epilogue(epilogue, normGain, gate, x));

    private static HostArray<T> Epilogue<T>(EpilogueParameters epilogue, AttentionTensor? normGain, AttentionTensor? gate, HostArray<T> x)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (x is HostArray<double> wide)
        {
            return (HostArray<T>)(object)Reference.EpiloguePass.Forward(
                epilogue, HostTensors.ReadOptional<double>(normGain)?.Data, HostTensors.ReadOptional<double>(gate), wide);
        }

        return (HostArray<T>)(object)Cpu.EpiloguePass.Forward(
            epilogue, HostTensors.ReadOptional<float>(normGain)?.Data, HostTensors.ReadOptional<float>(gate), (HostArray<float>)(object)x);
    }
}
