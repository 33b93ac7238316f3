from training.combining import main

if __name__ == "__main__":
    main()
