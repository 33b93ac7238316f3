from training.voice_scoring import main

if __name__ == "__main__":
    main()
